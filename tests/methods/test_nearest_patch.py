"""The nearest patch against loops over open_clip's own blocks."""

import pytest
import torch

from methods.components import memory
from methods.components.clip.depth import blocks_at
from methods.components.memory import ShotMemory, nearest_distance
from methods.nearest_patch import NearestPatch, turned


def noise_images(count, seed):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def tokens_of(backbone, image, blocks):
    """Unit patch tokens as they leave each of `blocks`, a list of (N, width)."""
    visual = backbone.clip.visual
    patches = visual.conv1((image[None] - backbone.mean) / backbone.std)[0].flatten(1).T
    x = visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding)[None]
    found = {}
    for depth, block in enumerate(visual.transformer.resblocks, start=1):
        x = block(x)
        found[depth] = x[0, 1:] / x[0, 1:].norm(dim=-1, keepdim=True)
    return [found[depth] for depth in blocks]


@pytest.mark.slow
def test_is_the_loop(backbone):
    method = NearestPatch(backbone, {"nut": "nut", "pcb": "board"})
    assert method.blocks == (2, 4, 6, 8)
    shots, images = noise_images(3, 1), noise_images(2, 0)
    method.adapt(noise_images(3, 2), "pcb")
    method.adapt(shots, "nut")
    score, anomaly_map = method(images, ["nut", "nut"])
    references = [tokens_of(backbone, shot, method.blocks) for shot in shots]
    for i, image in enumerate(images):
        layers = tokens_of(backbone, image, method.blocks)
        expected = torch.zeros(4, 4)
        for patch in range(16):
            nearest = [
                min(1 - float(layer[patch] @ other) for reference in references for other in reference[index])
                for index, layer in enumerate(layers)
            ]
            expected[patch // 4, patch % 4] = sum(nearest) / len(nearest)
        assert expected.std() > 1e-3
        torch.testing.assert_close(anomaly_map[i], expected, rtol=1e-4, atol=1e-6)
        assert float(score[i]) == pytest.approx(float(expected.max()), rel=1e-4)


def test_a_shot_is_not_anomalous(backbone):
    method = NearestPatch(backbone, {"nut": "nut"})
    shot = noise_images(1, 1)
    method.adapt(shot, "nut")
    score, anomaly_map = method(torch.cat([shot, noise_images(1, 2)]), ["nut", "nut"])
    assert anomaly_map[0].max() < 1e-5
    assert anomaly_map.min() >= 0
    assert score[0] < 1e-5 < 1e-3 < score[1]


def test_more_shots_never_raise_a_distance(backbone):
    few, many = (NearestPatch(backbone, {"nut": "nut"}) for _ in range(2))
    shots, images = noise_images(4, 1), noise_images(2, 0)
    few.adapt(shots[:1], "nut")
    many.adapt(shots, "nut")
    assert (many(images, ["nut"] * 2).anomaly_map <= few(images, ["nut"] * 2).anomaly_map + 1e-6).all()


def test_quarter_turns_are_exact():
    shots = noise_images(2, 1)
    copies = turned(shots, 4).unflatten(0, (4, 2))
    for step, copy in enumerate(copies):
        torch.testing.assert_close(copy, shots.rot90(step, (2, 3)), rtol=0, atol=1e-4)
    assert torch.equal(turned(shots, 1), shots)


def test_a_turn_by_hand():
    """A dot right of the centre goes an eighth of a turn up, counter-clockwise as `rot90`; its mirrors lie outside."""
    image = torch.zeros(1, 3, 65, 65)
    image[..., 31:34, 51:54] = 1  # 20 pixels right of the centre (32, 32)
    copy = turned(image, 8)[1, 0]
    rows, columns = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    copy = copy * (torch.hypot(rows - 32, columns - 32) < 32)
    centre = [float((axis * copy).sum() / copy.sum()) for axis in (rows, columns)]
    assert centre == pytest.approx([32 - 20 / 2**0.5, 32 + 20 / 2**0.5], abs=0.05)


def test_corners_mirror_the_image():
    assert torch.allclose(turned(torch.full((1, 3, 32, 32), 0.7), 8), torch.tensor(0.7))


def test_a_turned_shot_is_not_anomalous(backbone):
    upright, every_way = (NearestPatch(backbone, {"nut": "nut"}, NearestPatch.Config(angles=n)) for n in (1, 4))
    shots = noise_images(2, 1)
    for method in (upright, every_way):
        method.adapt(shots, "nut")
    images = shots.rot90(1, (2, 3))
    assert (upright(images, ["nut"] * 2).score > 1e-3).all()
    assert (every_way(images, ["nut"] * 2).score < 1e-4).all()


@pytest.mark.parametrize(("depth", "blocks"), [(24, (6, 12, 18, 24)), (12, (3, 6, 9, 12)), (2, (1, 2)), (1, (1,))])
def test_blocks_at_the_paper_fractions(depth, blocks):
    assert blocks_at(NearestPatch.Config().layers, depth) == blocks


@pytest.mark.parametrize("layers", [(), (0.0, 0.5), (6.0, 12.0)])
def test_layers_are_fractions(backbone, layers):
    with pytest.raises(ValueError, match="fractions of the depth"):
        NearestPatch(backbone, {"nut": "nut"}, NearestPatch.Config(layers=layers))


def test_needs_shots(backbone):
    with pytest.raises(ValueError, match=r"shots of 'nut' were seen; `adapt` has seen: none"):
        NearestPatch(backbone, {"nut": "nut"})(noise_images(1, 0), ["nut"])


def test_memory_in_small_parts(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features, bank = torch.randn(2, 5, 8, generator=generator), torch.randn(11, 8, generator=generator)
    features, bank = (x / x.norm(dim=-1, keepdim=True) for x in (features, bank))
    expected = torch.tensor([[min(1 - float(f @ m) for m in bank) for f in row] for row in features])
    for pairs in (1, 25, 2**24):
        monkeypatch.setattr(memory, "_PAIRS_AT_ONCE", pairs)
        torch.testing.assert_close(nearest_distance(features, bank), expected, rtol=1e-5, atol=1e-6)


def test_memory_follows_the_device(monkeypatch):
    """Also where torch itself would not mind, as it does not for a meta tensor beside one of the CPU."""
    met = []
    monkeypatch.setattr(memory, "nearest_distance", lambda f, m: met.append((f, m)) or nearest_distance(f, m))
    remembered = ShotMemory()
    remembered.remember("a.b", [torch.eye(4)[None]])  # a key that no module could hold
    (there,) = remembered.distances([torch.empty(2, 3, 4, device="meta")], ["a.b", "a.b"])
    assert [x.device.type for x in (*met[0], there)] == ["meta"] * 3
    assert there.shape == (2, 3)


def test_memory_stays_out_of_the_state_dict(backbone):
    method = NearestPatch(backbone, {"nut": "nut"})
    method.adapt(noise_images(1, 1), "nut")
    assert not method.state_dict()
