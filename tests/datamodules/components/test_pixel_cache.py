"""The same pixels with and without; what is damaged, full, unwritable or killed costs time alone."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.components import pixel_cache
from datamodules.components.pixel_cache import PixelCache
from datamodules.components.reading import read_image


@pytest.fixture
def photograph(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def entries(tmp_path):
    return [path for path in (tmp_path / "cache" / "pixels").rglob("*") if path.is_file()]


@pytest.fixture
def decoded(monkeypatch):
    count = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: (count.append(1), real(*a, **k))[1])
    return count


def test_equal_bits_and_one_decoding(photograph, tmp_path, decoded):
    plain = read_image(photograph, 32)
    cache = PixelCache(32, 1)
    first, second = read_image(photograph, 32, cache), read_image(photograph, 32, pickle.loads(pickle.dumps(cache)))
    assert torch.equal(plain, first)
    assert torch.equal(plain, second)
    assert len(decoded) == 2
    assert len(entries(tmp_path)) == 1
    second += 1  # what a method does to its images stays out of the cache
    assert torch.equal(read_image(photograph, 32, cache), plain)


def test_another_size_and_another_content_are_other_entries(photograph, tmp_path):
    read_image(photograph, 32, PixelCache(32, 1))
    assert read_image(photograph, 16, PixelCache(16, 1)).shape == (3, 16, 16)
    Image.new("RGB", (70, 90), (1, 2, 3)).resize((400, 400)).save(photograph, compress_level=0)
    assert torch.equal(read_image(photograph, 32, PixelCache(32, 1)), read_image(photograph, 32))
    assert len(entries(tmp_path)) == 3


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"\0" + b[1:], lambda b: b"", lambda b: b + b"x"])
def test_damaged_entries_are_not_believed(photograph, tmp_path, damage):
    plain = read_image(photograph, 32, PixelCache(32, 1))
    (entry,) = entries(tmp_path)
    entry.write_bytes(damage(entry.read_bytes()))
    assert torch.equal(read_image(photograph, 32, PixelCache(32, 1)), plain)
    assert entry.stat().st_size == 32 * 32 * 3 + pixel_cache.PROOF


def test_what_cannot_be_written_is_decoded(photograph, tmp_path):
    plain = read_image(photograph, 32)
    (tmp_path / "cache").write_text("no folder")
    assert torch.equal(read_image(photograph, 32, PixelCache(32, 1)), plain)


def test_a_disk_without_room_is_left_alone(photograph, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=3 * 2**30))
    read_image(photograph, 32, PixelCache(32, 1))
    assert entries(tmp_path) == []


def test_small_files_are_not_worth_it(tmp_path, photograph):
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    read_image(tmp_path / "small.png", 64, PixelCache(64, 1))
    assert entries(tmp_path) == []


def test_the_least_recently_used_go(tmp_path, photograph, monkeypatch):
    monkeypatch.setattr(pixel_cache, "SWEEP", 4)
    cache = PixelCache(32, 1)
    cache.limit = 3 * (32 * 32 * 3 + pixel_cache.PROOF)
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        cache.put(tmp_path / f"{i}.png", np.full((32, 32, 3), i, np.uint8))
        for entry in entries(tmp_path):
            if entry.read_bytes()[0] == i:
                os.utime(entry, (i, i))
    left = sorted(entry.read_bytes()[0] for entry in entries(tmp_path))
    assert left in ([2, 3], [1, 3], [1, 2])  # the newest was swept before its time was set back
    assert 0 not in left


def test_a_killed_writer_leaves_nothing_that_is_read(photograph, tmp_path):
    plain = read_image(photograph, 32, PixelCache(32, 1))
    (entry,) = entries(tmp_path)
    entry.rename(entry.with_name(f".tmp-1-{entry.name}"))
    assert torch.equal(read_image(photograph, 32, PixelCache(32, 1)), plain)
