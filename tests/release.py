"""Builds wheel and sdist, installs each in a clean environment, and runs `bench run` there, outside of the repository.

`make release-check` runs it; PIP_ARGS reaches pip. The files stay in dist/.
"""

import csv
import json
import os
import shlex
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
REQUEST = "--methods nearest_patch,trivial_colour_knn --datasets procedural --shots 1 --seeds 0 --categories zipper"
#: Variables by which a checkout or another environment would be found instead of what is installed.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def build(folder: Path) -> list[Path]:
    """Both files of the version at hand, made anew in a folder."""
    for old in (*folder.glob("clip_ad_bench-*.whl"), *folder.glob("clip_ad_bench-*.tar.gz")):
        old.unlink()
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True)
    return sorted((*folder.glob("clip_ad_bench-*.whl"), *folder.glob("clip_ad_bench-*.tar.gz")))


def try_out(file: Path, home: Path) -> None:
    """Install a file in a new environment in the empty folder `home` and measure two cells with it.

    Raises:
        SystemExit: a command fails, or the table does not hold both rows.
    """
    started = time.monotonic()
    venv.create(home / "venv", with_pip=True)
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment |= {"BENCH_CACHE": str(home / "cache"), "WANDB_MODE": "disabled"}
    pip = [str(home / "venv/bin/pip"), "install", "--quiet", *shlex.split(os.environ.get("PIP_ARGS", "")), str(file)]
    _call(pip, home, environment)
    installed = time.monotonic()
    place = home / "elsewhere"
    place.mkdir()
    bench = str(home / "venv/bin/bench")
    for words in ("list methods", "show preset smoke", f"run {REQUEST}"):
        _call([bench, *words.split()], place, environment)
    with (place / "results/main/leaderboard.csv").open(newline="", encoding="utf-8") as table:
        measured = {row["method"] for row in csv.DictReader(table) if row["kind"] == "all" and row["pixel_AUPRO"]}
    if measured != {"nearest_patch", "trivial_colour_knn"}:
        raise SystemExit(f"{file.name}: the leaderboard holds numbers of {sorted(measured)} alone")
    done = time.monotonic()
    print(f"ok  {file.name}: installed in {installed - started:.0f} s, ran in {done - installed:.0f} s", flush=True)


def _call(command: Sequence[str], place: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [json.loads(record.read_text())["error"] for record in place.glob("results/*/cells/*/attempt-*.json")]
        traces = "".join(error["traceback"] for error in errors[:1] if error)
        raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}{traces}")


def main() -> None:
    """Try out both files, one after the other."""
    for file in build(ROOT / "dist"):
        with TemporaryDirectory(prefix="release-") as home:
            try_out(file, Path(home))


if __name__ == "__main__":
    main()
