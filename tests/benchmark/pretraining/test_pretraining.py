"""The pretraining of the embedded CLIP: pairs, crops, words, losses, and a training that can be cut off."""

import math

import cv2
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from benchmark.pretraining import crops as crops_module
from benchmark.pretraining import wording
from benchmark.pretraining.bank import SIDE, open_bank, plan_bank
from benchmark.pretraining.crops import sample_crops
from benchmark.pretraining.objective import WEIGHTS, Lexicon, losses
from benchmark.pretraining.run import read_schedule
from benchmark.pretraining.start import waves, whitening
from benchmark.pretraining.trainer import Schedule, pretrain
from benchmark.request.registry import ConfigError
from datamodules.components.rendering import CATEGORIES
from datamodules.components.rendering.pretraining import HELD_OUT_DEFECTS, PRODUCTS, SURFACE, render_pair
from datamodules.procedural import Procedural
from datamodules.procedural_auxiliary import ProceduralAuxiliary
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.weights import model_config

pytestmark = pytest.mark.slow

TINY = Schedule(pairs=15, text_steps=1, part_steps=2, whole_steps=2, part_batch=4, whole_batch=2, save_every=1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return open_bank(tmp_path_factory.mktemp("bank"), TINY.pairs)


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


@pytest.mark.parametrize(("scope", "side"), [("part", 64), ("coarse", 64), ("whole", 128)])
def test_crops_hold_the_defect_and_are_a_function_of_the_step(bank, scope, side):
    crops, again = (sample_crops(bank, 6, scope, 0, 5) for _ in range(2))
    assert crops.images.shape == (12, 3, side, side)
    assert np.array_equal(crops.images, again.images)
    assert crops.texts == again.texts
    assert not crops.cover[:6].any()
    assert (crops.cover[6:].max(axis=1) > 0).all()
    assert (crops.place >= 0).all() == (scope != "part")
    assert not np.array_equal(sample_crops(bank, 6, scope, 0, 6).images, crops.images)


def test_the_stream_of_the_crops_is_that_of_the_shipped_weights(bank):
    assert sample_crops(bank, 6, "whole", 0, 5).product.tolist() == [14, 4, 0, 4, 8, 13]


def test_stress_exaggerates_the_defect_alone(bank):
    plain, loud = (sample_crops(bank, 6, "whole", 0, 5, stress) for stress in (1.0, 3.0))
    assert np.array_equal(plain.images[:6], loud.images[:6])
    assert not np.array_equal(plain.images[6:], loud.images[6:])


def test_each_pair_samples_its_own_stress(bank, monkeypatch):
    monkeypatch.setattr(crops_module, "_lit", lambda rng, image, side: cv2.resize(image, (side, side)))
    plain, loud = (sample_crops(bank, 6, "whole", 0, 5, stress).images for stress in (1.0, 3.0))
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
    clip = open_clip.CLIP(**model_config("embedded"))
    lexicon = Lexicon(open_clip.SimpleTokenizer())
    table = torch.nn.Parameter(clip.token_embedding.weight[lexicon.used].detach().clone())
    crops = sample_crops(bank, 4, "whole", 0, 1)
    terms = losses(clip, lexicon, table, crops, torch.from_numpy(crops.images), np.random.default_rng(0), vv=True)
    assert set(terms) == set(WEIGHTS) - {"paraphrase"}
    sum(terms.values()).backward()
    assert all(math.isfinite(term.item()) for term in terms.values())
    silent = [n for n, p in clip.named_parameters() if p.grad is None and n != "token_embedding.weight"]
    assert silent == []
    assert table.grad.abs().sum() > 0


def test_a_training_that_is_cut_off_ends_like_one_that_is_not(bank, tmp_path):
    whole = pretrain(tmp_path / "whole", bank, TINY, seed=0, device=CPU)
    pretrain(tmp_path / "cut", bank, TINY, seed=0, device=CPU, until=4)
    cut = pretrain(tmp_path / "cut", bank, TINY, seed=0, device=CPU)
    first, second = load_file(whole), load_file(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)
    backbone = CLIPBackbone.load("embedded", str(cut))
    assert (backbone.n_image_blocks, backbone.n_text_blocks) == (8, 6)
    with pytest.raises(ValueError, match=r"was made with seed=0; asked for seed=1\. Take"):
        pretrain(tmp_path / "cut", bank, TINY, seed=1, device=CPU)


def test_waves_and_filters():
    assert waves(4, 16).shape == (16, 16)
    assert len({tuple(row) for row in waves(16, 128).tolist()}) == 256
    patches = torch.randn(4000, 12) * torch.linspace(0.1, 10, 12)
    out = (patches - patches.mean(dim=0)) @ whitening(patches, 6).T
    assert torch.allclose(torch.cov(out.T), torch.diag(torch.cov(out.T).diag()), atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["steps=3"], "one of pairs"),
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
        read_schedule(words)


def test_the_command_trains_and_refuses(bench, tmp_path):
    small = [f"{key}={getattr(TINY, key)}" for key in ("pairs", "part_batch", "whole_batch")]
    steps = ["text_steps=1", "part_steps=1", "whole_steps=1"]
    done = bench("pretrain", "embedded", "--folder", tmp_path, *small, *steps)
    assert done.code == 0, done.err
    assert "backbone.pretrained=" in done.out
    for words, message in (
        (["ViT-B-32"], "Only 'embedded' is pretrained here; got 'ViT-B-32'"),
        (["embedded", "--folder", tmp_path, *small, *steps, "lr=0.5"], "was made with lr=0.001; asked for lr=0.5."),
        (["embedded", "--seed", "-1"], "--seed must be 0 or more, got -1"),
    ):
        refused = bench("pretrain", *words)
        assert (refused.code, message in refused.err) == (2, True), refused.err
