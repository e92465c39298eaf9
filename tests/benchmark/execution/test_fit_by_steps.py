"""A cell whose method resamples its batches from the shots: the same twice, and with workers, asked for or not."""

import json
import os

import pytest
import torch

from benchmark.execution import fitting
from benchmark.execution.fitting import idle_cores
from datamodules.components.fit_data import FitData

WORDS = ("run", "--methods", "anople", "--protocols", "multi_class", "--shots", "2", "--seeds", "0", "--limit", "4")
SMALL = ("method.anople.steps=3", "method.anople.batch_size=2", "method.anople.map_size=32")


@pytest.fixture
def workers():
    """How many processes made them, fit by fit."""
    return []


@pytest.fixture
def batches(monkeypatch, workers):
    """What a fit is given, batch by batch."""
    seen, real = [], fitting._train

    def watch(method, source, *arguments):
        seen.append(list(source.fit_loader(method.fit_data)))
        workers.append(source.num_workers)
        return real(method, source, *arguments)

    monkeypatch.setattr(fitting, "_train", watch)
    return seen


def scores(folder):
    (path,) = folder.glob("cells/*/attempt-*.json")
    return json.loads(path.read_text())["metrics"]


@pytest.mark.slow
def test_a_cell_is_the_same_again_with_workers(bench, cells, data, tmp_path, batches, workers, monkeypatch):
    for name, more in (("first", ()), ("worker", ("trainer.num_workers=1",)), ("idle", ())):
        if name == "idle":
            monkeypatch.setattr(fitting, "WORTH_WORKERS", 6)
            monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(torch.get_num_threads() + 2)})
        done = bench(*WORDS, *cells, *SMALL, *more, "--results", tmp_path / name)
        assert done.code == 0, done.err
    assert workers == [0, 1, 2]
    assert scores(tmp_path / "first") == scores(tmp_path / "worker") == scores(tmp_path / "idle")
    first, worker, idle = batches
    assert len(first) == 3
    assert {tuple(batch.image.shape) for batch in first} == {(4, 3, 288, 288)}  # pairs, twice 144 pixels
    assert {tuple(batch.mask.shape) for batch in first} == {(4, 288, 288)}
    for other in (worker, idle):
        assert all(torch.equal(a.image, b.image) for a, b in zip(first, other, strict=True))
    assert {path.split("/")[0] for batch in first for path in batch.path} <= {"bottle", "metal_nut"}


def test_workers_take_the_cores_that_a_long_synthesis_finds_idle(monkeypatch):
    long = FitData("shots", batch_size=8, steps=125, augment=lambda item, seed: item)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for cores, on_cpu, on_gpu in ((1, 0, 0), (3, 0, 2), (4, 1, 3), (8, 4, 4), (64, 4, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, count=cores: {*range(count)})
        assert (idle_cores(long, cpu), idle_cores(long, gpu)) == (on_cpu, on_gpu), cores
    assert idle_cores(long._replace(steps=124), gpu) == 0
    assert idle_cores(FitData("shots", batch_size=8, steps=600), gpu) == 0  # images as they are read
    assert idle_cores(FitData("labelled", batch_size=8), gpu) == 0
