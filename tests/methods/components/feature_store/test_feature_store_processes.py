"""Several processes share the folder of a feature store, and some of them are killed."""

import os
import random
import signal
import time
import traceback
from pathlib import Path

import pytest
import torch

from methods.components.feature_store import store as feature_store
from methods.components.feature_store.store import FeatureStore

WIDTH = 300_000  # numbers of an answer


def _images(*seeds):
    return torch.stack([torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _answer(images):
    return ((images.flatten(1).mean(1, keepdim=True).double() * torch.arange(1, WIDTH + 1)).float(),)


def _ask(store, *seeds):
    images = _images(*seeds)
    if not torch.equal(store.recall(images, "ramp", _answer, (0,))[0], _answer(images)[0]):
        raise AssertionError(f"The store gave another answer to {seeds}.")


def _start(work, *arguments):
    """Process id of a child that runs `work`; it ends with 0 if nothing was raised."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)
        work(*arguments)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _work(folder, max_bytes, seed):
    chance = random.Random(seed)
    for _ in range(4):
        store = FeatureStore(folder, max_bytes)
        for _ in range(12):
            _ask(store, *chance.sample(range(8), 2))
        assert store.counts.damaged == 0


@pytest.mark.slow
@pytest.mark.parametrize("room", [100, 5])
def test_three_processes_write_and_read_the_same_entries(tmp_path, room):
    children = [_start(_work, tmp_path, room * 4 * WIDTH, seed) for seed in range(3)]
    assert [_exit_code(child) for child in children] == [0, 0, 0]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".features"}
    assert 0 < len(files) <= min(room + 1, 8)
    store = FeatureStore(tmp_path, 2**30)
    _ask(store, *range(8))
    assert store.counts.hits == len(files)
    assert store.counts.damaged == 0


class _Slowly(list):
    """Buffers that come in small parts with pauses, so that most kills fall into a write."""

    def __iter__(self):
        for buffer in super().__iter__():
            for start in range(0, len(buffer), 50_000):
                time.sleep(0.001)
                yield buffer[start : start + 50_000]


def _write_for_ever(folder):
    write = feature_store.write_entry
    feature_store.write_entry = lambda path, buffers: write(path, _Slowly(buffers))
    store = FeatureStore(folder, 2**30)
    for seed in range(10_000):
        _ask(store, seed)
        for path in folder.glob("*/*.features"):
            path.unlink(missing_ok=True)  # so that the disk is not filled while the test runs
        _ask(store, seed)


@pytest.mark.slow
def test_no_kill_leaves_a_torn_entry(tmp_path):
    chance = random.Random(0)
    found = torn = halves = 0
    for trial in range(60):  # a busy machine needs longer lives before a kill finds a finished entry
        if trial >= 12 and found and halves:
            break
        child = _start(_write_for_ever, tmp_path)
        deadline = time.monotonic() + 30
        while not any(tmp_path.glob("*/*")) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.06 * chance.random() * (1 + trial / 3))
        os.kill(child, signal.SIGKILL)
        assert _exit_code(child) == -signal.SIGKILL, trial
        present = list(tmp_path.glob("*/*.features"))
        store = FeatureStore(tmp_path, 2**30)
        _ask(store, *range(30))
        found += store.counts.hits
        halves += len(list(tmp_path.glob("*/*.tmp")))
        torn += store.counts.damaged
        assert store.counts.hits <= len(present)
        for path in tmp_path.glob("*/*"):
            path.unlink()
    assert torn == 0
    assert found > 0
    assert halves > 0  # some kills fell into a write


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _write_and_die(folder):
    Path.replace = _die
    _ask(FeatureStore(folder, 2**30), 1)


@pytest.mark.slow
def test_a_writer_killed_before_the_last_step_leaves_no_entry(tmp_path):
    assert _exit_code(_start(_write_and_die, tmp_path)) == -signal.SIGKILL
    (left,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left.suffix == ".tmp"
    store = FeatureStore(tmp_path, 2**30)
    _ask(store, 1)
    _ask(store, 1)
    assert store.counts[:] == (1, 1, 0, 0)
    assert left.exists()  # its writer may live
    os.utime(left, (time.time() - 4000,) * 2)
    _ask(FeatureStore(tmp_path, 2**30), 2)
    assert not left.exists()


def test_a_map_outlives_the_removal_of_its_file(tmp_path):
    store = FeatureStore(tmp_path, 2**30)
    _ask(store, 1)
    (path,) = tmp_path.glob("*/*.features")
    (mapped,) = store._read(path.stem)
    path.unlink()
    assert torch.equal(mapped, _answer(_images(1))[0][0])
