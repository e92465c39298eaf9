"""Kept predictions come back as they were, to half the bits of a float, and a damaged file is no file."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmark.records.predictions import Predicted, read, write

FINISH = {"size": [8, 8], "sigma": 1.5, "align_corners": True}


def predicted(maps):
    return Predicted(
        ["a/1.png", "a/2.png", "b/1.png"],
        ["a", "a", "b"],
        ["01", "02", "03"],
        np.array([False, True, True]),
        np.array([1e-30, 0.1, 3.0], dtype=np.float32),
        maps,
        FINISH,
    )


@pytest.mark.parametrize(("low", "width"), [(0, 1), (0.999, 1e-3), (-40, 3), (0, 1e-9), (5, 1e6)])
def test_maps_keep_a_share_of_their_range_wherever_it_lies(tmp_path, low, width):
    maps = (low + width * np.random.default_rng(0).random((3, 5, 4))).astype(np.float32)
    write(tmp_path / "p.safetensors", predicted(maps))
    found = read(tmp_path / "p.safetensors")
    assert found is not None
    assert found[:3] == predicted(maps)[:3]
    assert found.finish == FINISH
    np.testing.assert_array_equal(found.anomalous, [False, True, True])
    np.testing.assert_array_equal(found.scores, predicted(maps).scores)  # to the bit
    assert np.abs(found.maps - maps).max() <= width * 2**-11 + np.abs(maps).max() * 2**-23


def test_equal_maps_and_no_maps_come_back(tmp_path):
    write(tmp_path / "p.safetensors", predicted(np.full((3, 2, 2), 7, np.float32)))
    np.testing.assert_array_equal(read(tmp_path / "p.safetensors").maps, np.full((3, 2, 2), 7))
    write(tmp_path / "p.safetensors", predicted(None))
    assert read(tmp_path / "p.safetensors").maps is None


def test_an_image_of_37_patches_takes_less_than_4_kb(tmp_path):
    n, grid = 50, np.random.default_rng(0).random((50, 37, 37)).astype(np.float32)
    names = [f"metal_nut/test/scratch_and_dent/{i:03}.png" for i in range(n)]
    many = Predicted(names, ["metal_nut"] * n, ["f" * 64] * n, np.ones(n, bool), np.ones(n, np.float32), grid, FINISH)
    write(tmp_path / "p.safetensors", many)
    assert (tmp_path / "p.safetensors").stat().st_size < 4000 * n


def test_a_damaged_file_is_none(tmp_path):
    path = tmp_path / "p.safetensors"
    assert read(path) is None
    write(path, predicted(np.zeros((3, 2, 2), np.float32)))
    whole = path.read_bytes()
    for damaged in (whole[:-3], whole[:40], b"", b"\xff" * 100, whole.replace(b'"schema":"1"', b'"schema":"2"')):
        path.write_bytes(damaged)
        assert read(path) is None
    path.write_bytes(whole)
    tensors = load_file(path)
    for name, value in (("score", np.zeros(2, np.float32)), ("map", np.zeros((4, 2, 2), np.float16))):
        write(path, predicted(np.zeros((3, 2, 2), np.float32)))
        save_file({**tensors, name: value}, path, header(whole))
        assert read(path) is None
    save_file(tensors, path, header(whole) | {"told": "[" * 100_000})
    assert read(path) is None


def header(whole):
    size = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + size])["__metadata__"]
