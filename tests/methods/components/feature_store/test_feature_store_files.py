"""What lies in the folder of a feature store: damage, eviction, and a disk that takes no more."""

import os
import resource
import shutil
import time
import warnings

import pytest
import torch

from methods.components.feature_store.store import FeatureCounts, FeatureStore

WIDTH = 2048
ENTRY = 8 * WIDTH  # bytes of the numbers of one answer


def _images(*seeds):
    return torch.stack([torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _answer(images):
    """Two tensors that tell one image from another, the second with the batch in another place."""
    ramp = torch.arange(WIDTH, dtype=torch.float32)
    flat = images.flatten(1).double()
    return (flat.mean(1, keepdim=True) * ramp).float(), (flat.std(1, keepdim=True) + ramp).float()[None]


def _ask(store, *seeds):
    """Ask one image at a time, and compare with the answer computed without a store."""
    for seed in seeds:
        image = _images(seed)
        for got, wanted in zip(store.recall(image, "ramp", _answer, (0, 1)), _answer(image), strict=True):
            assert torch.equal(got, wanted)


def _entries(store):
    return sorted(store.folder.glob("??/*.features"))


def _used_bytes(store):
    return sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())


def _age(path, seconds):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features", 2**24)


def _damage_everywhere():
    """Changes of a whole file's bytes: cut at many places, one byte flipped at many places, foreign, longer."""
    cases = {f"cut to {n}": lambda data, n=n: data[:n] for n in (0, 1, 8, 15, 16, 40, 127, 128, 129, 5000)}
    cases["one byte short"] = lambda data: data[:-1]
    cases["one byte long"] = lambda data: data + b"\0"
    cases["foreign text"] = lambda data: b"name,score\n" * 2000
    cases["zeros of the same length"] = lambda data: bytes(len(data))
    cases["zeros after a while"] = lambda data: data[:4096] + bytes(len(data) - 4096)
    for at in (0, 7, 8, 11, 12, 15, 16, 20, 60, 100, 127, 128, 131, 9999, ENTRY, ENTRY + 100):
        cases[f"byte {at} flipped"] = lambda data, at=at: data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
    return cases


@pytest.mark.slow
@pytest.mark.parametrize("damage", _damage_everywhere().values(), ids=_damage_everywhere())
@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_damaged_file_is_computed_anew(store, damage, opened):
    _ask(store, 1, 1)
    (path,) = _entries(store)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    if opened == "after":
        store = FeatureStore(store.folder, store.max_bytes)
    before = store.counts
    _ask(store, 1)
    assert store.counts == before._replace(misses=before.misses + 1, damaged=before.damaged + 1)
    assert path.read_bytes() == whole
    _ask(store, 1)
    assert store.counts.hits == before.hits + 1


def test_the_entry_of_another_key_is_no_answer(store):
    _ask(store, 1)
    (path,) = _entries(store)
    whole = path.read_bytes()
    path.unlink()
    _ask(store, 2)
    (other,) = _entries(store)
    other.write_bytes(whole)
    _ask(store, 2)
    assert store.counts == FeatureCounts(hits=0, misses=3, evicted=0, damaged=1)


@pytest.mark.slow
def test_files_of_others_are_left_alone(tmp_path):
    store = FeatureStore(tmp_path, 10 * ENTRY)
    strangers = [tmp_path / "notes.txt", tmp_path / "ab" / "notes.features", tmp_path / "photos" / ("0" * 64)]
    strangers += [tmp_path / "ab" / f"{'0' * 64}.tmp", tmp_path / "ab" / f"{'a' * 64}.features.bak"]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(20 * ENTRY))
        _age(path, 10**6)
    _ask(store, *range(30))
    assert store.counts.evicted > 0
    assert len(_entries(store)) - 1 > 5  # what others left there takes no room, one of it with an entry's suffix
    assert all(path.stat().st_size == 20 * ENTRY for path in strangers)


@pytest.mark.slow
def test_the_folder_never_exceeds_its_bound(tmp_path):
    store = FeatureStore(tmp_path, 10 * ENTRY)
    for seed in range(40):
        _ask(store, seed)
        assert _used_bytes(store) <= store.max_bytes
    present = len(_entries(store))
    assert present >= 8
    assert store.counts == FeatureCounts(hits=0, misses=40, evicted=40 - present, damaged=0)


@pytest.mark.slow
def test_two_stores_of_one_folder_stay_near_the_bound(tmp_path):
    stores = [FeatureStore(tmp_path, 40 * ENTRY) for _ in range(2)]
    for seed in range(200):
        _ask(stores[seed % 2], seed)
        assert _used_bytes(stores[0]) <= stores[0].max_bytes * (1 + 2 / 16)


def test_those_used_longest_ago_leave_first(tmp_path):
    store = FeatureStore(tmp_path, 10 * ENTRY)
    paths = {}
    for seed in range(9):
        _ask(store, seed)
        (paths[seed],) = set(_entries(store)) - set(paths.values())
        _age(paths[seed], 1000 - seed)  # seed 0 was written first
    before = paths[0].stat().st_mtime_ns
    _ask(store, 0, 3)  # used again
    assert paths[0].stat().st_mtime_ns == before
    assert time.time() - paths[0].stat().st_atime < 100
    FeatureStore(tmp_path, 8 * ENTRY).recall(_images(99), "ramp", _answer, (0, 1))
    gone = {seed for seed, path in paths.items() if not path.exists()}
    assert gone == {1, 2, 4}  # 0.9 of 8 entries are left, the new one among them


def test_a_use_is_noted_on_any_mount_but_not_for_each_read(store, monkeypatch):
    _ask(store, 1)
    (path,) = _entries(store)
    noted, utime = [], os.utime
    monkeypatch.setattr(os, "utime", lambda path, **times: noted.append(path) or utime(path, **times))
    _ask(store, 1)
    assert noted == []
    utime(path, (time.time() - 3600, path.stat().st_mtime))
    _ask(store, 1, 1, 1)
    assert noted == [path]
    assert time.time() - path.stat().st_atime < 60


def test_old_temporary_files_are_swept_and_young_ones_are_not(store):
    _ask(store, 1)
    (path,) = _entries(store)
    old, young = (path.with_name(f"{path.stem}.{pid}-0123abcd.tmp") for pid in (1, 2))
    for temporary in (old, young):
        temporary.write_bytes(b"half")
    _age(old, 3700)
    _ask(FeatureStore(store.folder, store.max_bytes), 2)
    assert young.exists()
    assert not old.exists()


def test_a_folder_that_vanishes_is_made_again(store):
    _ask(store, 1)
    shutil.rmtree(store.folder)
    _ask(store, 1, 1)
    assert store.counts[:2] == (1, 2)


def test_an_entry_above_the_bound_warns_once_and_the_run_goes_on(tmp_path):
    store = FeatureStore(tmp_path / "features", ENTRY // 2)
    with pytest.warns(UserWarning, match="takes no more features") as caught:
        _ask(store, 1, 1, 2)
    assert len(caught) == 1
    assert _entries(store) == []


def test_a_full_disk_warns_once_and_the_run_goes_on(store):
    _ask(store, 1)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ENTRY // 2, former[1]))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _ask(store, 2, 3, 2, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert [str(w.message) for w in caught if "takes no more features" in str(w.message)] == [
        str(w.message) for w in caught
    ]
    assert len(caught) == 1
    assert "too large" in str(caught[0].message)
    assert store.counts == FeatureCounts(hits=1, misses=4, evicted=0, damaged=0)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == _entries(store)
    _ask(store, 4)
    (path,) = _entries(store)  # a store that stopped stays silent
    path.write_bytes(b"")
    _ask(store, 1, 1)
    assert store.counts.damaged == 1  # removed, though nothing takes its place


def test_a_file_in_the_way_and_senseless_sizes_are_refused(tmp_path):
    (tmp_path / "features").write_text("")
    with pytest.raises(ValueError, match="needs a folder; got the file"):
        FeatureStore(tmp_path / "features", 1)
    with pytest.raises(ValueError, match="positive size in bytes; got 0"):
        FeatureStore(tmp_path, 0)


def test_other_types_than_float32_are_refused(store):
    with pytest.raises(TypeError, match=r"holds torch.float32; got torch.float16"):
        store.recall(_images(1), "half", lambda images: (images.flatten(1).half(),), (0,))
