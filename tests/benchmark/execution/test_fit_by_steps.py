"""A cell whose method resamples its batches from the shots: the same twice, and with a worker."""

import json

import pytest
import torch

from benchmark.execution import fitting

WORDS = ("run", "--methods", "anople", "--protocols", "multi_class", "--shots", "2", "--seeds", "0", "--limit", "4")
SMALL = ("method.anople.steps=3", "method.anople.batch_size=2", "method.anople.map_size=32")


@pytest.fixture
def batches(monkeypatch):
    """What a fit is given, batch by batch."""
    seen, real = [], fitting._train

    def watch(method, source, *arguments):
        seen.append(list(source.fit_loader(method.fit_data)))
        return real(method, source, *arguments)

    monkeypatch.setattr(fitting, "_train", watch)
    return seen


def scores(folder):
    (path,) = folder.glob("cells/*/attempt-*.json")
    return json.loads(path.read_text())["metrics"]


@pytest.mark.slow
def test_a_cell_is_the_same_again_with_a_worker(bench, cells, data, tmp_path, batches):
    for name, more in (("first", ()), ("worker", ("trainer.num_workers=1",))):
        done = bench(*WORDS, *cells, *SMALL, *more, "--results", tmp_path / name)
        assert done.code == 0, done.err
    assert scores(tmp_path / "first") == scores(tmp_path / "worker")
    first, worker = batches
    assert len(first) == 3
    assert {tuple(batch.image.shape) for batch in first} == {(4, 3, 256, 256)}  # pairs, twice 128 pixels
    assert {tuple(batch.mask.shape) for batch in first} == {(4, 256, 256)}
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, worker, strict=True))
    assert {path.split("/")[0] for batch in first for path in batch.path} <= {"bottle", "metal_nut"}
