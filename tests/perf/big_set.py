"""Listing and verifying a set as large as Real-IAD: `python -m tests.perf.big_set`, some minutes to write its files.

Promise: 150,000 tiny files listed and verified in under 60 s once their hashes are known, with under 500 MB.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.components.verification import verify
from datamodules.folder import Folder

CATEGORIES, TRAIN, NORMAL, ANOMALOUS = 30, 2000, 1500, 750  # with a mask for each of the last: 150,000 files


def main() -> None:
    """Write the set, then time each look at it in this process."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_CACHE"] = f"{folder}/cache"
        root = Path(folder) / "set"
        files = write(root)
        start = memory()
        for name in ("first", "second"):
            data = Folder(root, Folder.find_categories(root), image_size=8)
            timed(f"{name} listing", lambda data=data: sum(len(data.tests(c)) for c in data.chosen))
            timed(f"{name} verify of a run", data.verify)
            timed(f"{name} fingerprints", lambda data=data: [data.fingerprint(c) for c in data.chosen])
            timed(f"{name} bench data verify", lambda data=data: list(verify(data, {}, confirmed=True)))
        print(f"{files} files; memory grew by {memory() - start:.0f} MB (promised: under 500)")


def timed(name, work) -> None:  # type: ignore[no-untyped-def]
    """Print the seconds of a call."""
    start = time.perf_counter()
    work()
    print(f"{name:<28} {time.perf_counter() - start:6.1f} s", flush=True)


def memory() -> float:
    """Peak of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(root: Path) -> int:
    """The files of all categories, each with bytes of its own; returns their number."""
    count = 0
    for category in range(CATEGORIES):
        place = root / f"part_{category:02}"
        for folder, number, masked in (("train/good", TRAIN, 0), ("test/good", NORMAL, 0), ("test/bent", ANOMALOUS, 1)):
            (place / folder).mkdir(parents=True)
            (place / "ground_truth" / "bent").mkdir(parents=True, exist_ok=True)
            for i in range(number):
                pixels = np.frombuffer((count * 2654435761).to_bytes(8, "little"), np.uint8).reshape(2, 4)
                Image.fromarray(pixels).save(place / folder / f"{i:05}.png")
                if masked:
                    Image.fromarray(np.full((2, 4), 255, np.uint8)).save(place / "ground_truth/bent" / f"{i:05}.png")
                count += 1 + masked
    return count


if __name__ == "__main__":
    main()
