"""The documentation, built once for all tests and all workers."""

import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """The site in `folder`, and what MkDocs said beside it; of several processes the first builds it."""
    site, said = folder / "site", folder / "said.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not said.is_file():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "docs/site/mkdocs.yml")]
            environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [*command, "-d", str(site)], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise AssertionError(f"mkdocs ended with {done.returncode}:\n{done.stdout}{done.stderr}")
            said.write_text(done.stdout + done.stderr)
    return site
