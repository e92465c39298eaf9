import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pixel_oracle import labelled

from benchmark.metrics.accumulate import ImageMetrics, PixelMetrics

ROOT = Path(__file__).parents[3]
RANK = """
import pickle, sys
import torch
import torch.distributed as dist
from benchmark.metrics.accumulate import ImageMetrics, PixelMetrics
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
scores, labels, maps, regions = torch.load(f"{folder}/data.pt")
part = [slice(0, 5), slice(5, 7), slice(0, 0)][rank]  # uneven, and one rank without a batch
image, pixel = ImageMetrics(), PixelMetrics(chunk=1000)
for index in range(part.start, part.stop):
    one = slice(index, index + 1)
    image.update(scores[one], labels[one])
    pixel.update(maps[one], regions[one])
results = image.compute() | pixel.compute()
kept = sum(len(each) for each in pixel.scores)
with open(f"{folder}/{rank}.pickle", "wb") as file:
    pickle.dump((results, kept), file)
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ranks_add_up_to_one_process(tmp_path):
    generator = torch.Generator().manual_seed(0)
    scores, maps = torch.randn(7, generator=generator), torch.randn(7, 20, 30, generator=generator)
    labels = torch.tensor([1, 0, 1, 1, 0, 1, 0], dtype=torch.bool)
    masks = (torch.rand(7, 20, 30, generator=generator) < 0.2) & labels[:, None, None]
    regions = labelled(masks)
    torch.save((scores, labels, maps, regions), tmp_path / "data.pt")
    commands = [[sys.executable, "-c", RANK, str(rank), str(tmp_path)] for rank in range(3)]
    processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    image, pixel = ImageMetrics(), PixelMetrics()
    image.update(scores, labels)
    pixel.update(maps, regions)
    expected = image.compute() | pixel.compute()
    assert all(np.isfinite(result.value) for result in expected.values())
    for rank, images in enumerate((5, 2, 0)):
        results, kept = pickle.loads((tmp_path / f"{rank}.pickle").read_bytes())
        assert results == expected
        assert kept == images * 600  # its own part again, once computed
