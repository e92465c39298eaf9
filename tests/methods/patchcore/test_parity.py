"""PatchCore against tensors of its released code: windows, features, coreset, neighbours, scores and maps.

`pytest tests/methods/patchcore/test_parity.py --fixture PATH` runs the same on another file of the schema; every size
and constant comes from that file.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from methods.components.maps import gaussian_smooth
from methods.components.scoring import to_grid, to_map
from methods.patchcore.coreset import approximate_greedy
from methods.patchcore.neighbours import nearest, reweighted_score
from methods.patchcore.patches import cut_windows, patch_features, window_features

FIXTURE = Path(__file__).parents[2] / "fixtures" / "patchcore.npz"
CLOSE = {"atol": 1e-5, "rtol": 0}
FAR = {"atol": 2e-5, "rtol": 0}  # distances and scores, up to 18
RUNS = ("coreset", "identity", "neighbours")


@pytest.fixture(scope="module")
def parity(request):
    """The recorded tensors, and what the suite makes of the recorded maps."""
    with np.load(request.config.getoption("fixture") or FIXTURE) as file:
        config = json.loads(str(file["config_json"]))
        recorded = {k: torch.from_numpy(file[k]) for k in file.files if k != "config_json"}
    assert (config["stride"], config["distance"]) == (1, "squared_l2")
    dims = config["pretrain_dimension"], config["target_dimension"]

    def describe(split):
        return patch_features([recorded[f"feature/{split}{layer}"] for layer in (2, 3)], config["patch"], *dims)

    return SimpleNamespace(recorded=recorded, config=config, train=describe("train"), test=describe("test"))


def test_windows_of_both_layers(parity):
    """Of one image, each layer on its own grid, and the coarser one enlarged."""
    side = parity.config["patch"]
    for layer in (2, 3):
        windows = cut_windows(parity.recorded[f"feature/test{layer}"][:1], side)  # (1, C·side², rows, columns)
        found = windows[0].flatten(1).T.unflatten(1, (-1, side, side))
        assert torch.equal(found, parity.recorded[f"embed/patches{layer}"])
    enlarged = F.interpolate(windows, parity.config["grid2"], mode="bilinear")
    assert_close(enlarged[0].flatten(1).T.unflatten(1, (-1, side, side)), parity.recorded["embed/upsampled3"], **CLOSE)


def test_pooled_layers(parity):
    side, dim, grid = (parity.config[key] for key in ("patch", "pretrain_dimension", "grid2"))
    layers = [window_features(parity.recorded[f"feature/test{k}"][:1], side, grid, dim)[0] for k in (2, 3)]
    assert_close(torch.stack(layers, dim=1), parity.recorded["embed/pooled"], **CLOSE)


def test_patch_features(parity):
    assert_close(parity.train, parity.recorded["embed/train"], **CLOSE)
    assert_close(parity.test, parity.recorded["embed/test"], **CLOSE)


def test_coreset(parity):
    recorded, rows = parity.recorded, parity.train.flatten(0, 1)
    projection, count = recorded["coreset/projection"], int(len(rows) * parity.config["coreset_ratio"])
    assert len(projection) == parity.config["projection_dimension"]
    assert len(recorded["coreset/start"]) == parity.config["n_start_points"]
    assert_close(rows @ projection.T, recorded["coreset/reduced"], **CLOSE)
    chosen = approximate_greedy(rows, count, projection, recorded["coreset/start"])
    assert torch.equal(chosen, recorded["coreset/indices"])
    assert_close(rows[chosen], recorded["coreset/memory"], **CLOSE)


@pytest.mark.parametrize("run", RUNS)
def test_neighbours_scores_and_maps(parity, run):
    recorded, config = parity.recorded, parity.config
    count = recorded[f"{run}/distance"].shape[-1]
    found = nearest(parity.test, recorded[f"{run}/memory"], count)
    assert torch.equal(found.row, recorded[f"{run}/neighbour"])
    assert_close(found.distance, recorded[f"{run}/distance"], **FAR)
    patches = found.distance.mean(dim=-1)
    assert_close(to_grid(patches, config["grid2"]), recorded[f"{run}/patch_score"], **FAR)
    assert_close(patches.amax(dim=1), recorded[f"{run}/score"], **FAR)
    maps = to_map(patches, config["grid2"], config["image_size"])
    assert_close(maps, recorded[f"{run}/map_before"], **FAR)
    assert_close(gaussian_smooth(maps, config["sigma"]), recorded[f"{run}/map"], **FAR)


@pytest.mark.parametrize("around", ["memory", "query"])
def test_both_readings_of_the_papers_reweighting(parity, around):
    memory, found = parity.recorded["coreset/memory"], nearest(parity.test, parity.recorded["coreset/memory"], 1)
    score = reweighted_score(parity.test, found, memory, parity.config["n_neighbours"], around)
    assert_close(score, parity.recorded[f"paper/score_{around}"], **FAR, check_dtype=False)
    plain = found.distance[..., 0].amax(dim=1).sqrt()
    assert_close(plain, parity.recorded["paper/score_plain"], **FAR, check_dtype=False)
