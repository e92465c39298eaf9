"""AnoPLe's settings, its fit, its memory of prompted shots, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from twins import write_mvtec_ad

from benchmark.execution.fitting import make_trainer
from datamodules.components.sample import Batch
from datamodules.mvtec_ad import MVTecAD
from methods.anople.method import AnoPLe, image_score
from methods.anople.schedules import warm_cosine
from methods.components.memory import ShotMemory

SIZE = 64
NAMES = {"nut": "nut", "pcb": "printed circuit board"}
KINDS = ("normal", "pixel", "latent")


def build(backbone, names=NAMES, seed=0, **settings):
    """Everything learnt is larger than initialised, so that it matters."""
    torch.manual_seed(seed)
    method = AnoPLe(backbone, names, AnoPLe.Config(**{"decoder_width": 16, "map_size": SIZE, "steps": 24} | settings))
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02 if "to_" in name else 0.2)
    return method.eval()


def noise_images(count, seed=3, size=SIZE):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def noise_batch(kinds=KINDS, keys=("nut", "pcb", "nut")):
    mask = torch.zeros(len(kinds), 2 * SIZE, 2 * SIZE, dtype=torch.bool)
    for row, kind in enumerate(kinds):
        if kind != "normal":
            mask[row, 16:80, 32:96] = True
    label = mask.any(dim=(1, 2))
    return Batch(
        noise_images(len(kinds), size=2 * SIZE), mask, label, list(keys)[: len(kinds)], ["x"] * len(kinds), kinds
    )


def remembered(method, images=None):
    method.adapt(noise_images(2, 1) if images is None else images, "nut")
    method.adapt(noise_images(2, 2), "pcb")
    return method


def distances(method, images, keys):
    """Of the patches of test images to those of the shots."""
    prompts = method.prompts()
    features = method.encode(images, prompts, taps=method.taps)
    seen, memory = method._remember(images, features, prompts)
    return method.memory.distances(memory, seen, keys)


SETTINGS = [
    {},
    {"prompts": "text"},
    {"prompts": "visual"},
    {"prompts": "text", "prefix": False},
    {"coupling": "none"},
    {"multi_scale": False, "prefix": False},
    {"decoder": False},
    {"alignment": False},
    {"mask_head": "conv"},
    {"vv_attention": True, "share_projections": True},
    {"decoder_layers": (0.25, 0.5, 0.75, 1.0), "memory_features": "plain"},
    {"image_texts": "all", "image_views": "whole", "align_on": "all", "align_detach": "patches"},
    {"image_score": "map_top", "bank": "pooled"},
    {"batch": "kinds", "dice_on": "all"},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_setting_learns_all_it_has_and_predicts(backbone, settings):
    method = remembered(build(backbone, **settings))
    score, anomaly_map = method(noise_images(2), ["nut", "pcb"])
    assert score.isfinite().all()
    assert anomaly_map.shape == (2, SIZE, SIZE)
    method.train().loss(noise_batch()).backward()
    without = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert all(p.grad is None for p in backbone.parameters())


def test_v1_is_one_model_per_category(backbone):
    with pytest.raises(ValueError, match=r"one model for each category.*got nut, pcb"):
        build(backbone, variant="v1")


def test_v1_tells_the_decoder_which_view_it_reads(backbone):
    method = build(backbone, {"nut": "nut"}, variant="v1")
    assert method.prefix is None
    assert method.reader.signals.shape == (5, 48)
    method.loss(noise_batch(keys=["nut"] * 3)).backward()
    assert method.reader.signals.grad.norm(dim=1).min() > 0
    method.adapt(noise_images(2, 1), "nut")
    before = method(noise_images(2), ["nut"] * 2)
    with torch.no_grad():
        method.reader.signals[1:] = float("nan")
    assert_close(method(noise_images(2), ["nut"] * 2), before, rtol=0, atol=0)


def test_image_scores():
    p, m, a = torch.tensor([0.5]), torch.full((1, 20, 20), 0.1), torch.zeros(1, 20, 20)
    m[0, 3, 4], a[0, 0, :4] = 0.25, torch.tensor([0.8, 0.6, 0.4, 0.2])
    scores = {k: image_score(k, p.log(), m, a).item() for k in ("text_map", "text_memory", "map", "map_top")}
    assert scores == pytest.approx({"text_map": 0.8 / 1.3, "text_memory": 0.25 / 0.75, "map": 0.8, "map_top": 0.5})


def test_rates_rise_and_follow_a_cosine(backbone):
    optimizer = torch.optim.AdamW([{"params": [torch.zeros(1)], "lr": 4e-3}, {"params": [torch.zeros(1)], "lr": 2e-3}])
    schedule, rates = warm_cosine(optimizer, 12, 4, 1e-3), []
    for _ in range(13):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    first, second = map(list, zip(*rates, strict=True))
    assert first[:5] == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 4e-3])
    assert (first[8], second[8]) == pytest.approx((2.5e-3, 1.5e-3))
    assert (first[12], second[12]) == pytest.approx((1e-3, 1e-3))
    with pytest.raises(ValueError, match="below the 4 steps"):
        warm_cosine(optimizer, 4, 4, 1e-3)


def test_decoder_has_a_rate_of_its_own(backbone):
    method = build(backbone)
    others, decoder = method.configure_optimizers()["optimizer"].param_groups
    assert (others["initial_lr"], decoder["initial_lr"], others["weight_decay"]) == (5e-4, 1e-3, 1e-4)
    assert {id(p) for p in decoder["params"]} == {id(p) for p in method.reader.decoder.parameters()}
    assert len(others["params"]) + len(decoder["params"]) == len(list(method.parameters()))


def test_gradients_are_clipped(backbone):
    method = build(backbone)
    method.loss(noise_batch()).backward()
    method.configure_gradient_clipping(None)
    assert_close(torch.cat([p.grad.flatten() for p in method.parameters()]).norm(), torch.tensor(1.0))


@pytest.mark.slow
def test_memory_follows_the_prompts(backbone):
    """Shots are shown before the fit, and compared as the fitted prompts see them."""
    method, other = remembered(build(backbone)), remembered(build(backbone, seed=1))
    method(noise_images(2), ["nut", "pcb"])
    method.load_state_dict(other.state_dict())
    assert_close(method(noise_images(2), ["nut", "pcb"]), other(noise_images(2), ["nut", "pcb"]), rtol=0, atol=0)
    method.adapt(noise_images(2, 9), "nut")
    other.adapt(noise_images(2, 9), "nut")
    assert_close(method(noise_images(2), ["nut", "pcb"]), other(noise_images(2), ["nut", "pcb"]), rtol=0, atol=0)


def test_memory_holds_shots_as_prompts_and_whole_view_show_them(backbone):
    method = remembered(build(backbone))
    prompts = method.prompts()
    seen = backbone.encode_image(
        torch.cat([noise_images(2, 1), noise_images(2)]),
        taps=(2, 5),
        deep_prompts=prompts.visual,
        prefix=method.prefix[:1],
    )
    unit = F.normalize(seen.taps, dim=-1)
    memory = ShotMemory()
    memory.remember("nut", unit[:, :2])
    expected = torch.stack(memory.distances(unit[:, 2:], ["nut", "nut"])).mean(dim=0) / 2
    assert method.taps == (2, 5)
    assert_close(distances(method, noise_images(2), ["nut"] * 2), expected)


@pytest.mark.parametrize("memory_features", ["prompted", "plain"])
@pytest.mark.parametrize("text", ["retrieved", "argmax"])
def test_texts_are_those_that_the_image_chooses(backbone, text, memory_features):
    """As if they were told the category of the nearest shot, or of the likest text; the label is not read."""
    told, free = (
        remembered(build(backbone, bank="pooled", memory_features=memory_features, text=each))
        for each in ("known", text)
    )
    images, keys, prompts = noise_images(8, 5), [*NAMES], told.prompts()
    prompted = told.encode(images, prompts).image
    if text == "retrieved":
        see = backbone.encode_image if memory_features == "plain" else lambda some: told.encode(some, prompts)
        shots = see(torch.cat([noise_images(2, 1), noise_images(2, 2)])).image
        chosen = [keys[int(row) // 2] for row in (see(images).image @ shots.T).argmax(dim=1)]
    else:
        likeness = torch.einsum("bd,ktd->bkt", prompted, told.read_texts(prompts)).amax(dim=2)
        chosen = [keys[int(row)] for row in likeness.argmax(dim=1)]
    assert_close(free(images, ["nobody knows"] * 8), told(images, chosen), rtol=0, atol=0)
    assert not torch.allclose(told(images, chosen).score, told(images, [keys[key == keys[0]] for key in chosen]).score)


def test_encodes_shots_and_texts_once(backbone, monkeypatch):
    method, counts = remembered(build(backbone)), []
    image, text = backbone.encode_image, backbone.encode_text
    monkeypatch.setattr(backbone, "encode_image", lambda *a, **k: counts.append("image") or image(*a, **k))
    monkeypatch.setattr(backbone, "encode_text", lambda *a, **k: counts.append("text") or text(*a, **k))
    method(noise_images(2), ["nut", "pcb"])
    assert sorted(counts) == ["image", "image", "image", "text"]
    method(noise_images(2), ["nut", "pcb"])
    assert sorted(counts[4:]) == ["image"]


def fit(backbone, root, workers=0):
    data = MVTecAD(root, ("bottle",), image_size=SIZE, shots=2, batch_size=2, num_workers=workers)
    torch.manual_seed(0)
    method = AnoPLe(backbone, {"bottle": "bottle"}, AnoPLe.Config(decoder_width=16, steps=3, batch_size=2))
    make_trainer(torch.device("cpu"), [], max_epochs=method.max_epochs).fit(method, data)
    return method.state_dict()


@pytest.mark.slow
def test_a_fit_is_the_same_again_and_with_a_worker(backbone, tmp_path):
    root = write_mvtec_ad(tmp_path, ["bottle"])
    start = AnoPLe.Config(decoder_width=16)
    torch.manual_seed(0)
    initial = AnoPLe(backbone, {"bottle": "bottle"}, start).state_dict()
    states = [fit(backbone, root), fit(backbone, root), fit(backbone, root, workers=1)]
    for name, value in states[0].items():
        assert not torch.equal(value, initial[name]), name
        assert all(torch.equal(value, state[name]) for state in states[1:]), name
