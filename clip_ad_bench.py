"""The command `bench`: runs `benchmark.cli` once Python is sure to find the suite's own packages.

Their names are common words. Another package of such a name that comes first on the path would otherwise show as an
import error about something deep inside it.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent
PACKAGES = ("benchmark", "configs", "datamodules", "methods")


def shadowed() -> list[str]:
    """A sentence for each of the suite's packages that Python does not find beside this file; imports none of them."""
    sentences = []
    for name in PACKAGES:
        spec, own = find_spec(name), HOME / name / "__init__.py"
        found = spec.origin if spec else None
        if found is None or Path(found).resolve() != own.resolve():
            sentences.append(
                f"the package {name!r} of clip-ad-bench is shadowed: Python must find {own}, it finds "
                f"{found or 'none'}. Rename or uninstall the other one, take its folder off PYTHONPATH, or start "
                "`bench` in another folder."
            )
    return sentences


def main() -> None:
    """Run `bench`; exit code 2 and a sentence on each package that is shadowed, none while a shell completes a line."""
    if sentences := shadowed():
        if "_BENCH_COMPLETE" not in os.environ:
            print(*(f"error: {sentence}" for sentence in sentences), sep="\n", file=sys.stderr)
        raise SystemExit(2)
    from benchmark.cli import main as bench  # noqa: PLC0415  (would fail in its own imports)

    bench()


if __name__ == "__main__":
    main()
