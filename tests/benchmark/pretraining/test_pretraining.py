"""The pretraining of the embedded CLIP: pairs, crops, words, losses, and a training that can be cut off."""

import json
import math

import cv2
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from benchmark.pretraining import alignment, objective, student, wording
from benchmark.pretraining import crops as crops_module
from benchmark.pretraining.alignment import Schedule, align
from benchmark.pretraining.bank import SIDE, open_bank, plan_bank
from benchmark.pretraining.crops import sample_crops
from benchmark.pretraining.features import Shard
from benchmark.pretraining.objective import WEIGHTS, Lexicon, losses
from benchmark.pretraining.run import read_schedule
from benchmark.pretraining.start import waves, whitening
from benchmark.pretraining.student import fit_target, read_tower
from benchmark.request.registry import ConfigError
from datamodules.components.rendering import CATEGORIES
from datamodules.components.rendering.pretraining import HELD_OUT_DEFECTS, PRODUCTS, SURFACE, render_pair
from datamodules.procedural import Procedural
from datamodules.procedural_auxiliary import ProceduralAuxiliary
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.image_tower import embed_patches
from methods.components.clip.model_files import CHECKPOINTS
from methods.winclip import square_windows

pytestmark = pytest.mark.slow

TINY = Schedule(
    pairs=15, text_steps=1, part_steps=2, whole_steps=2, part_batch=4, whole_batch=2, hold_batch=1, save_every=1
)
SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 1.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 2, "mlp_ratio": 1.0},
}
GRID = 8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return open_bank(tmp_path_factory.mktemp("bank"), TINY.pairs)


@pytest.fixture
def small(monkeypatch):
    for module in (student, alignment):
        monkeypatch.setattr(module, "CONFIG", SMALL)
    monkeypatch.setattr(alignment, "GRID", GRID)
    monkeypatch.setattr("benchmark.pretraining.distillation.CONFIG", SMALL)


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((6, 4, GRID * GRID, 32))
    classes = rng.standard_normal((6, 4, 32))
    unit = [(part / np.linalg.norm(part, axis=-1, keepdims=True)).astype(np.float16) for part in (tokens, classes)]
    return [Shard(rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8), *unit)]


@pytest.fixture
def tower(small):
    torch.manual_seed(1)
    return open_clip.CLIP(**SMALL).visual.state_dict()


def test_the_benchmark_is_held_out():
    tested = {defect for category in Procedural.categories for defect in CATEGORIES[category].defects}
    seen = {defect for spec in PRODUCTS.values() for defect in spec.defects} | set(SURFACE)
    assert not set(Procedural.categories) & set(PRODUCTS)
    assert set(ProceduralAuxiliary.categories) <= set(PRODUCTS)
    assert not seen & set(HELD_OUT_DEFECTS)
    assert len(tested & set(HELD_OUT_DEFECTS)) * 2 >= len(tested)
    said = " ".join(wording.vocabulary())
    for category in Procedural.categories:
        assert category.replace("_", " ") not in said
    for defect in HELD_OUT_DEFECTS:
        assert f" {defect} " not in f" {said} "


def test_words_name_all_that_is_rendered():
    assert set(wording.PRODUCT_WORDS) == set(PRODUCTS)
    assert set(wording.DEFECT_WORDS) == {d for spec in PRODUCTS.values() for d in spec.defects} | set(SURFACE)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_pair_differs_where_its_mask_says(product):
    for defect in (*PRODUCTS[product].defects, "lump"):
        pair = render_pair(product, defect, 3, seed=1, size=64)
        again = render_pair(product, defect, 3, seed=1, size=64)
        assert all(np.array_equal(a, b) for a, b in zip(pair, again, strict=True))
        gap = np.abs(pair.normal.astype(int) - pair.anomalous.astype(int)).sum(axis=2)
        assert pair.mask.any(), defect
        assert gap[pair.mask].mean() > 4 * max(gap[~pair.mask].mean(), 0.25), defect


def test_a_bank_is_rendered_once_and_goes_on_where_it_stopped(bank, tmp_path):
    assert bank.pixels.shape == (15, 2, SIDE, SIDE, 3)
    first = open_bank(tmp_path, 15)
    assert np.array_equal(first.pixels, bank.pixels)
    (folder,) = tmp_path.iterdir()
    before = (folder / "pixels.u8").stat().st_mtime_ns
    open_bank(tmp_path, 15)
    assert (folder / "pixels.u8").stat().st_mtime_ns == before
    assert (folder / "drawn.json").read_text() == "[0]"
    (folder / "drawn.json").write_text("[]")
    assert np.array_equal(open_bank(tmp_path, 15).masks, bank.masks)
    assert plan_bank(15, 0) == bank.scenes


@pytest.mark.parametrize(("scope", "side"), [("part", 72), ("coarse", 72), ("whole", 144)])
def test_crops_hold_the_defect_and_are_a_function_of_the_step(bank, scope, side):
    crops, again = (sample_crops(bank, 18, 6, scope, 0, 5) for _ in range(2))
    assert crops.images.shape == (12, 3, side, side)
    assert np.array_equal(crops.images, again.images)
    assert crops.texts == again.texts
    assert not crops.cover[:6].any()
    assert (crops.cover[6:].max(axis=1) > 0).all()
    assert (crops.place >= 0).all() == (scope != "part")
    assert not np.array_equal(sample_crops(bank, 18, 6, scope, 0, 6).images, crops.images)


def test_parts_lie_everywhere_in_the_whole(bank):
    corners = [sample_crops(bank, 6, 1, "part", 0, step).corner for step in range(40)]
    assert {row for row, _ in corners} == {column for _, column in corners} == {0, 1, 2, 3}


def test_stress_exaggerates_the_defect_alone(bank):
    plain, loud = (sample_crops(bank, 18, 6, "whole", 0, 5, stress) for stress in (1.0, 3.0))
    assert np.array_equal(plain.images[:6], loud.images[:6])
    assert not np.array_equal(plain.images[6:], loud.images[6:])


def test_each_pair_samples_its_own_stress(bank, monkeypatch):
    monkeypatch.setattr(crops_module, "_lit", lambda rng, image, side: cv2.resize(image, (side, side)))
    plain, loud = (sample_crops(bank, 18, 6, "whole", 0, 5, stress).images for stress in (1.0, 3.0))
    added = np.abs(loud[6:] - plain[6:]).sum((1, 2, 3)) / np.abs(plain[6:] - plain[:6]).sum((1, 2, 3))
    assert (added > 0).all()
    assert (added < 2).all()
    assert np.ptp(added) > 0.5


def test_every_word_of_training_has_a_row_of_its_own():
    lexicon = Lexicon(open_clip.SimpleTokenizer())
    table = torch.arange(len(lexicon.used)).float().view(-1, 1) + 1
    rng = np.random.default_rng(0)
    for _ in range(200):
        product = wording.product_words(rng, "tray")
        texts = [wording.normal_text(rng, product), wording.defect_text(rng, product, "chip", 3)]
        tokens = lexicon.tokens(texts, table, np.random.Generator(np.random.PCG64(0)))
        known = tokens.embeddings[..., 0] > 0
        said = (table[:, 0].long()[tokens.embeddings[..., 0].long() - 1] - 1)[known]
        assert torch.equal(torch.tensor(lexicon.used)[said], tokens.ids[known])


def test_the_losses_are_finite_and_reach_every_weight(bank):
    torch.manual_seed(0)
    clip = open_clip.CLIP(**SMALL)
    lexicon = Lexicon(open_clip.SimpleTokenizer())
    table = torch.nn.Parameter(clip.token_embedding.weight[lexicon.used].detach().clone())
    crops = sample_crops(bank, GRID, 4, "whole", 0, 1)
    terms = losses(clip, lexicon, table, crops, torch.from_numpy(crops.images), np.random.default_rng(0), vv=True)
    assert set(terms) == set(WEIGHTS) - {"paraphrase"}
    sum(terms.values()).backward()
    assert all(math.isfinite(term.item()) for term in terms.values())
    silent = [n for n, p in clip.named_parameters() if p.grad is None and n != "token_embedding.weight"]
    assert silent == []
    assert table.grad.abs().sum() > 0


@pytest.mark.parametrize(("scope", "corner"), [("whole", (0, 0)), ("part", (3, 1)), ("coarse", (0, 0))])
def test_a_crop_has_the_positions_of_what_it_shows(bank, scope, corner):
    torch.manual_seed(0)
    backbone = CLIPBackbone(open_clip.CLIP(**SMALL).eval(), open_clip.SimpleTokenizer())
    crops, visual = sample_crops(bank, GRID, 2, scope, 0, 1)._replace(corner=corner), backbone.clip.visual
    images = torch.from_numpy(crops.images)
    with torch.no_grad():
        seen = objective.see(backbone.clip, crops, (images - backbone.mean) / backbone.std, vv=True)
        square = visual.positional_embedding[1:].view(GRID, GRID, -1)
        if scope == "coarse":
            square = square.view(GRID // 2, 2, GRID // 2, 2, -1).mean(dim=(1, 3))
        side = images.shape[-1] // 8
        shown = square[corner[0] : corner[0] + side, corner[1] : corner[1] + side].reshape(side * side, -1)
        visual.positional_embedding = torch.nn.Parameter(torch.cat([visual.positional_embedding[:1], shown]))
        visual.grid_size = (side, side)
        plain, vv = (
            backbone.encode_image(images, layers=(4,), stream=stream, vv_from=2)
            for stream in ("ordinary", "vv_from_ordinary")
        )
    assert torch.allclose(seen.image, plain.image, atol=1e-5)
    assert torch.allclose(seen.patches[0], plain.patches[0], atol=1e-5)
    assert torch.allclose(seen.patches[1], vv.patches[0], atol=1e-5)


def test_windows_are_seen_as_winclip_sees_them(monkeypatch):
    """The class token of each window agrees with `encode_windows`, and its degree is the most of its patches."""
    torch.manual_seed(0)
    backbone = CLIPBackbone(open_clip.CLIP(**SMALL).eval(), open_clip.SimpleTokenizer())
    images, cover = torch.rand(3, 3, 64, 64), torch.zeros(3, GRID * GRID)
    cover[1, 9], cover[2, 10] = 0.1, 1.0
    visual = backbone.clip.visual
    x = visual.ln_pre(embed_patches(visual, (images - backbone.mean) / backbone.std, visual.positional_embedding))
    seen = {}
    monkeypatch.setattr(objective, "_balanced", lambda gap, degree: seen.update(gap=gap, degree=degree) or gap.sum())
    direction = torch.randn(16)
    for side in (2, 3):
        monkeypatch.setattr(objective, "_SIDES", (side,))
        with torch.no_grad():
            objective._window_state(visual, x, cover, np.random.default_rng(0), direction)
        windows = square_windows((GRID, GRID), side)
        wanted = (backbone.encode_windows(images, windows) @ direction).flatten()
        degree = (4 * cover[:, windows.patches].amax(dim=2)).clamp(max=1).flatten()
        nearest = (seen["gap"].unsqueeze(1) - wanted).abs().argmin(dim=1)
        assert torch.allclose(seen["gap"], wanted[nearest], atol=1e-5)
        assert torch.allclose(seen["degree"], degree[nearest])
        assert (seen["degree"][:64] > 0).all()


def test_a_training_that_is_cut_off_ends_like_one_that_is_not(bank, tower, views, tmp_path):
    target = fit_target(views, 32)

    def run(name, seed=0, until=None):
        return align(tmp_path / name, tower, bank, views, target, TINY, seed=seed, device=CPU, until=until)

    whole = run("whole")
    run("cut", until=4)
    cut = run("cut")
    first, second = (load_file(folder / CHECKPOINTS[0]) for folder in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ConfigError, match=r"was made with seed=0; asked for seed=1\. Take"):
        run("cut", seed=1)


def test_all_of_the_image_tower_but_its_end_stays_that_of_the_student(bank, tower, views, tmp_path):
    schedule = Schedule(**vars(TINY) | {"image_lr": 0.1})
    made = read_tower(align(tmp_path, tower, bank, views, fit_target(views, 32), schedule, seed=0, device=CPU))
    changed = {name for name, value in made.items() if not torch.equal(value, tower[name].half().float())}
    last = {name for name in made if name.startswith("transformer.resblocks.3.")}
    assert last | {"proj", "ln_post.weight", "ln_post.bias"} <= changed
    assert all(name.startswith(("transformer.resblocks.3.", "proj", "ln_post")) for name in changed)


def test_the_distillation_holds_the_last_block(bank, tower, views, tmp_path):
    """With the weight of the hold alone, the last tokens come nearer to the teacher's."""
    steps = {
        "text_steps": 0,
        "part_steps": 24,
        "save_every": 24,
        "whole_steps": 0,
        "part_batch": 1,
        "image_lr": 5e-2,
        "lr": 1e-9,
    }
    target = fit_target(views, 32)
    loss = {}
    for hold in (0.0, 50.0):
        schedule = Schedule(**vars(TINY) | steps | {"hold": hold, "hold_batch": 2})
        align(tmp_path / str(hold), tower, bank, views, target, schedule, seed=0, device=CPU)
        log = [json.loads(line) for line in (tmp_path / str(hold) / "log.jsonl").read_text().splitlines()]
        loss[hold] = log[-1]["hold"]
    assert loss[50.0] < loss[0.0] - 0.02


def test_waves_and_filters():
    assert waves(4, 16).shape == (16, 16)
    assert len({tuple(row) for row in waves(16, 128).tolist()}) == 256
    patches = torch.randn(4000, 12) * torch.linspace(0.1, 10, 12)
    out = (patches - patches.mean(dim=0)) @ whitening(patches, 6).T
    assert torch.allclose(torch.cov(out.T), torch.diag(torch.cov(out.T).diag()), atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["views=3"], "one of pairs"),
        (["pairs"], "one of pairs"),
        (["pairs=x"], "of type int"),
        (["pairs=0"], r"pairs must be above 0, got 0\."),
        (["part_steps=-1"], r"part_steps must be 0 or more, got -1\."),
        (["lr=nan"], "lr must be finite, got 'nan'"),
        (["lr=inf"], "lr must be finite, got 'inf'"),
        (["pairs=15", "pairs=30"], "'pairs=30' says pairs a second time"),
    ],
)
def test_words_that_do_not_fit_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        read_schedule(words, Schedule)
