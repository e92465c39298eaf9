"""Where a number comes from: versions, commit, device."""

import platform
import socket
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    "clip-ad-bench",
    "torch",
    "torchvision",
    "lightning",
    "open_clip_torch",
    "torchmetrics",
    "numpy",
    "pillow",
    "opencv-python-headless",
)
#: What numbers come from; tables that a run rewrites are none of it.
SOURCES = ("benchmark", "methods", "datamodules", "configs", "pyproject.toml")


@cache
def provenance() -> dict[str, Any]:
    """Versions, commit and machine of this process."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=all", "--", *SOURCES)),
        "platform": platform.platform(),
        "host": socket.gethostname(),
    }


def _git(*words: str) -> str | None:
    """Output of git in the checkout this file lies in; None when it is installed without one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
