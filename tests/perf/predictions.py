"""What keeping predictions costs: `python -m tests.perf.predictions`, a minute or two.

The share of a test's time that keeping raw maps and writing the file takes, in one process run, for a test set of four
images, where one file is written for little, and for one of 48, less than most categories have; and the bytes an image
at a grid of 37 x 37 patches. Promises: below 2 %, below 4,000 bytes.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmark.contract.candidates import candidates, small_cell, write_images
from benchmark.execution.build import build_method, open_backbone
from benchmark.execution.data import open_data, target
from benchmark.execution.fitting import quiet
from benchmark.execution.predicted import predicted
from benchmark.execution.run_cell import predict_tests
from benchmark.execution.watch import Pulse, Watch
from benchmark.records.predictions import Predicted, write

ROUNDS, SHARE, BYTES = 9, 0.02, 4000
COPIES = (1, 12)  # of each of the four images
CPU = torch.device("cpu")


def main() -> None:
    """Print both figures."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        for copies in COPIES:
            images, found = share(Path(folder) / str(copies), copies)
            print(
                f"keeping takes {found:.2%} of a test of winclip, {images} images, embedded CLIP (promised {SHARE:.0%})"
            )
        names = [f"metal_nut/test/scratch_and_dent/{i:03}.png" for i in range(200)]
        maps = np.random.default_rng(0).random((200, 37, 37), dtype=np.float32)
        finish = {"size": [518, 518], "sigma": 4.0, "align_corners": False}
        truth, scores = np.ones(200, bool), np.ones(200, np.float32)
        write(
            path := Path(folder) / "p", Predicted(names, ["nut"] * 200, ["f" * 64] * 200, truth, scores, maps, finish)
        )
        print(f"{path.stat().st_size / 200:,.0f} bytes an image of 37 x 37 patches (promised {BYTES:,})")


def share(folder: Path, copies: int) -> tuple[int, float]:
    """Test images, and the median over rounds of seconds of keeping and writing over seconds of the test."""
    write_images(folder, turned=False)
    for image in sorted(folder.glob("*/test/*/*.png")):
        mask = folder / image.parts[-4] / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
        for copy in range(1, copies):
            shutil.copy(image, image.with_stem(f"{image.stem}-{copy}"))
            if mask.exists():
                shutil.copy(mask, mask.with_name(f"{image.stem}-{copy}_mask.png"))
    cell = small_cell(candidates("winclip")[0], str(folder))
    data = open_data(target(cell), 64)
    method = build_method(cell, open_backbone(cell), data)
    spent: list[float] = []

    def keep(kept: list, data: object) -> None:
        start = time.perf_counter()
        write(folder / "predictions", predicted(kept, data))  # type: ignore[arg-type]
        spent.append(time.perf_counter() - start)

    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        kept = predict_tests(method, data, 256, CPU, Watch((), Pulse(None), raw_bytes=2**30))
        tested = time.perf_counter() - start
        keep(kept, data)
        found.append(spent[-1] / tested)
    return len(data.test_samples), float(np.median(found))


if __name__ == "__main__":
    main()
