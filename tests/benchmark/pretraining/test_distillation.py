"""A teacher of timm or of a folder, its features kept in shards, and a student whose own tokens become them."""

import json

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmark.pretraining import distillation, features, student
from benchmark.pretraining.distillation import Schedule, distil
from benchmark.pretraining.features import Shard, look, make_shards, shard_folder
from benchmark.pretraining.photographs import Photograph
from benchmark.pretraining.run import read_schedule
from benchmark.pretraining.student import fit_target, new_student, normalised, objective, see, unexplained
from benchmark.pretraining.teacher import clip_of_timm, open_teacher
from benchmark.request.registry import ConfigError
from methods.components.clip.backbone import CLIPBackbone

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TINY = {"image_size": 32, "layers": 4, "width": 16, "head_width": 8, "patch_size": 8, "mlp_ratio": 1.0}
GRID = 16  # patches of an image of 32 px
QUICK = Schedule(views=128, first_views=64, steps=6, steps_per_shard=3, batch=2, save_every=1, warmup=1)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    monkeypatch.setattr(student, "CONFIG", {"embed_dim": 8, "vision_cfg": TINY, "text_cfg": text})
    monkeypatch.setattr("benchmark.pretraining.distillation.CONFIG", student.CONFIG)


def unit(rng, *shape):
    values = rng.standard_normal(shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float16)


def made_up(number, count=8):
    """A teacher whose tokens are a fixed linear map of the pixels of their patches."""
    images = np.random.default_rng(number).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    patches = images.reshape(count, 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(count, 1, GRID, -1) / 255 - 0.5
    tokens = patches @ np.random.default_rng(0).standard_normal((4, patches.shape[-1], 16))
    tokens = (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float16)
    return Shard(images, tokens, unit(np.random.default_rng(number), count, 4, 16))


def timm_model(**changes):
    import timm

    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3} | changes
    model = timm.models.vision_transformer.VisionTransformer(**sizes).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.default_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.5, 0.3, 0.2)}
    return model


def test_a_timm_model_has_the_same_tokens_in_open_clip():
    model = timm_model()
    backbone = CLIPBackbone(clip_of_timm(model), None)
    images = torch.rand(2, 3, 32, 32)
    shown = (images - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.5, 0.3, 0.2]).view(3, 1, 1)
    with torch.no_grad():
        wanted = model.forward_intermediates(
            shown, intermediates_only=True, output_fmt="NLC", return_prefix_tokens=True
        )
    found = backbone.encode_image(images, taps=(1, 2, 3))
    for block, (patches, prefix) in enumerate(wanted):
        assert torch.allclose(found.taps[block], patches, atol=1e-4)
        assert torch.allclose(found.class_taps[block], prefix[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"class_token": False, "global_pool": "avg"}, {"init_values": 0.1}, {"reg_tokens": 2}]
)
def test_another_kind_of_timm_model_is_refused(changes):
    with pytest.raises(ConfigError, match="no plain vision transformer with a class token"):
        clip_of_timm(timm_model(**changes))


def test_a_teacher_is_named_by_its_schema(monkeypatch, tmp_path):
    import timm

    model = timm_model()
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained: model if (name, pretrained) == ("own", True) else 1
    )
    opened = open_teacher("timm:own", 6)
    assert (opened.image_size, opened.grid_size) == (48, (6, 6))
    with pytest.raises(ConfigError, match=r"--teacher must be local-dir:PATH or timm:NAME, got 'vit_tiny'"):
        open_teacher("vit_tiny", 6)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no network")))
    with pytest.raises(ConfigError, match=r"Cannot get the weights of timm:own: no network"):
        open_teacher("timm:own", 6)
    folder = student.export(new_student(0, made_up(0).images).state_dict(), tmp_path / "student")
    assert open_teacher(f"local-dir:{folder}", 5).image_size == 40


def test_shards_hold_unit_tokens_of_the_teacher_and_are_made_once(monkeypatch, tmp_path):
    tower = CLIPBackbone(clip_of_timm(timm_model(depth=4)), None)
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(features, "shard_of_views", lambda root, shown, number, size, seed: np.roll(views, number, 0))
    shown = [Photograph("p", "x.png", "0" * 64, 300, 300)]
    folder = shard_folder(tmp_path, tower, shown, 16, 0)
    assert folder != shard_folder(tmp_path, tower, [shown[0]._replace(sha256="1" * 64)], 16, 0)
    (folder / "00001.new").mkdir(parents=True)  # of a process that was killed
    (folder / "00001.new" / "tokens.npy").write_text("torn")
    first, second = make_shards(folder, tower, tmp_path, shown, 2, 16, 0)
    assert first.images.shape == (3, 16, 16, 3)
    assert np.array_equal(first.tokens, np.roll(second.tokens, -1, 0))
    images = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255
    wanted = F.normalize(tower.encode_image(images, taps=(1, 2, 3, 4)).taps, dim=-1)
    assert np.abs(first.tokens.transpose(1, 0, 2, 3) - wanted.numpy()).max() < 1e-3
    monkeypatch.setattr(features, "look", lambda *_: pytest.fail("the teacher looked again"))
    again = make_shards(folder, tower, tmp_path, shown, 2, 16, 0)
    assert np.array_equal(again[1].classes, second.classes)


def test_the_students_image_is_the_view_made_smaller():
    tower = CLIPBackbone(clip_of_timm(timm_model(depth=4)), None)
    view = np.zeros((1, 32, 32, 3), np.uint8)
    view[:, :, 16:] = 200
    (small,) = look(tower, view, 16).images
    assert abs(int(small[8, 2, 0])) <= 12
    assert abs(int(small[8, 13, 0]) - 200) <= 12


def test_what_is_unexplained_is_none_of_the_teacher_and_all_of_a_constant():
    shards = [made_up(number) for number in range(3)]
    target = fit_target(shards, 16)
    shard = shards[0]
    tokens, classes = (torch.from_numpy(part).float() for part in (shard.tokens, shard.classes))
    found = see(new_student(0, shard.images), normalised(shard.images))
    twice = found._replace(taps=2 * tokens.transpose(0, 1), class_taps=5 * classes.transpose(0, 1))
    assert objective(unexplained(twice, tokens, classes, target)).item() < 1e-5
    shares = unexplained(found, tokens, classes, target)
    by_hand = 0.0
    for each in range(8):
        for patch in range(GRID):
            own = found.taps[2, each, patch].detach().numpy().astype(float)
            by_hand += (1 - own @ shard.tokens[each, 2, patch] / np.linalg.norm(own)) / (8 * GRID)
    everything = np.concatenate([s.tokens[:, 2, ::7] for s in shards]).reshape(-1, 16).astype(float)
    constant = everything.mean(axis=0) / np.linalg.norm(everything.mean(axis=0))
    assert shares["patches"][2].item() == pytest.approx(by_hand / (1 - everything @ constant).mean(), rel=1e-2)


@pytest.mark.parametrize("theirs", [12, 16, 40])
def test_a_target_of_another_width_keeps_cosines(theirs):
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((theirs, theirs)) * np.geomspace(1, 0.02, theirs)[:, None]
    tokens = (rng.standard_normal((30, 4, GRID, theirs)) @ mixing).astype(np.float32)
    tokens = (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float16)
    shard = Shard(made_up(0).images, tokens, tokens[:, :, 0])
    target = fit_target([shard], 16)
    kept = student.unit_target(target, torch.from_numpy(tokens).float())
    assert kept.shape == (30, 4, GRID, 16)
    assert student.unit_target(target, torch.from_numpy(shard.classes).float()).shape == (30, 4, 16)
    flat = [torch.as_tensor(np.asarray(part), dtype=torch.float32)[:, 1].flatten(0, 1) for part in (tokens, kept)]
    before, after = (part @ part.T for part in flat)
    assert (before - after).abs().mean() < (0.02 if theirs > 16 else 1e-3)


def test_a_student_comes_nearer_to_its_teacher_and_can_be_opened(tmp_path):
    shards = [made_up(0, count=2), made_up(1, count=2)]
    schedule = Schedule(views=128, first_views=64, steps=80, batch=2, lr=1e-2, warmup=5, save_every=80, average=0.9)
    folder = distil(tmp_path / "run", lambda count: shards[:count], schedule, seed=0, device=CPU)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert sum(lines[-1]["patches"]) < 0.8 * sum(lines[0]["patches"])
    backbone = CLIPBackbone.load(f"local-dir:{folder}", "")
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["average"]
    clip = new_student(0, shards[0].images)
    clip.visual.load_state_dict(kept)
    images = torch.from_numpy(shards[0].images).permute(0, 3, 1, 2).float() / 255
    own = see(clip, normalised(shards[0].images))
    opened = backbone.encode_image(images, taps=(1, 2, 3, 4))
    assert torch.allclose(F.normalize(own.taps, dim=-1), F.normalize(opened.taps, dim=-1), atol=1e-2)


def test_a_distillation_that_is_cut_off_ends_like_one_that_is_not(tmp_path):
    shards = [made_up(0, count=3), made_up(1, count=3)]
    asked = []

    def give(count):
        asked.append(count)
        return shards[:count]

    whole = distil(tmp_path / "whole", give, QUICK, seed=0, device=CPU)
    assert asked == [1, 2]  # a shard joins after three steps
    distil(tmp_path / "cut", give, QUICK, seed=0, device=CPU, until=4)
    cut = distil(tmp_path / "cut", give, QUICK, seed=0, device=CPU)
    first, second = (CLIPBackbone.load(f"local-dir:{folder}", "").weights_hash for folder in (whole, cut))
    assert first == second
    for seed, source, said in ((1, "", "seed=0; asked for seed=1"), (0, "others", "source=; asked for source=others")):
        with pytest.raises(ConfigError, match=said):
            distil(tmp_path / "cut", give, QUICK, seed=seed, device=CPU, source=source)


def test_a_part_has_the_tokens_and_positions_of_where_it_lies():
    shard = made_up(3)
    images, tokens, (row, column) = distillation._parts([shard], np.random.default_rng(2), 5)
    assert (images.shape, tokens.shape) == ((5, 3, 16, 16), (5, 4, 4, 16))
    whole = torch.from_numpy(shard.tokens).float().unflatten(2, (4, 4))
    cut = whole[:, :, row : row + 2, column : column + 2].flatten(2, 3)
    assert all(any(torch.equal(part, each) for each in cut) for part in tokens)
    clip = new_student(0, shard.images)
    with torch.no_grad():
        clip.visual.transformer.resblocks[0].attn.out_proj.weight.zero_()
        clip.visual.transformer.resblocks[0].attn.out_proj.bias.zero_()
    light = normalised(shard.images)
    first = see(clip, light).taps[0].unflatten(1, (4, 4))  # without attention a patch knows itself and its place
    part = see(clip, light[:, :, 16:, 8:24], (2, 1)).taps[0].unflatten(1, (2, 2))
    assert torch.allclose(part, first[:, 2:, 1:3], atol=1e-5)
    assert not torch.allclose(part, see(clip, light[:, :, 16:, 8:24]).taps[0].unflatten(1, (2, 2)), atol=1e-3)


def test_the_rate_and_the_pool():
    schedule = Schedule(lr=1.0, warmup=10, flat=100, views=640, first_views=128, steps_per_shard=5)
    rates = [schedule.rate(step) for step in (0, 9, 100, 400)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5])
    assert [schedule.pool(step) for step in (0, 4, 5, 39, 40, 1000)] == [2, 2, 3, 9, 10, 10]
    assert read_schedule(["views=640"], Schedule).views == 640
    with pytest.raises(ConfigError, match="one of views, first_views"):
        read_schedule(["pairs=3"], Schedule)


def test_the_command_refuses(bench, tmp_path):
    teacher = f"local-dir:{student.export(new_student(0, made_up(0).images).state_dict(), tmp_path / 'teacher')}"
    for words, message in (
        (["embedded", "--teacher", teacher, "--photographs", tmp_path, "--folder", tmp_path], "apt-get install"),
        (["embedded", "--teacher", "vit_tiny", "--photographs", tmp_path], "--teacher must be local-dir:PATH or"),
        (["ViT-B-32", "--teacher", "timm:x"], "Only 'embedded' is pretrained here"),
        (["embedded", "--teacher", "timm:x", "steps=0"], "steps must be above 0"),
        (["embedded", "--teacher", "timm:x", "--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["embedded", "--teacher", "timm:x", "text.lr=0"], "lr must be above 0"),
        (["embedded"], "Missing option '--teacher'"),
    ):
        refused = bench("pretrain", *words)
        assert (refused.code, message in refused.err) == (2, True), refused.err


def test_the_command_makes_a_clip_and_goes_on(bench, tmp_path, monkeypatch):
    """From photographs and a teacher to a model that `bench run` takes, with the real student and few steps."""
    monkeypatch.undo()  # the tiny student
    monkeypatch.setattr("benchmark.pretraining.run.FEWEST", 1)
    place = tmp_path / "root" / "usr/share/backgrounds/mate"
    place.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (240, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place / "photo.png")
    vision = {"image_size": 36, "layers": 4, "width": 16, "head_width": 8, "patch_size": 2, "mlp_ratio": 1.0}
    text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "teacher").mkdir()
    description = json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    (tmp_path / "teacher" / "open_clip_config.json").write_text(description)
    torch.save(open_clip.CLIP(**config).state_dict(), tmp_path / "teacher" / "open_clip_pytorch_model.bin")
    command = ["pretrain", "embedded", "--teacher", f"local-dir:{tmp_path / 'teacher'}", "--folder", tmp_path / "made"]
    command += ["--photographs", tmp_path / "root", "views=128", "first_views=64", "batch=1", "steps=2", "save_every=1"]
    texts = {"pairs": 15, "text_steps": 1, "part_steps": 1, "whole_steps": 1, "part_batch": 2, "whole_batch": 2}
    command += [f"text.{key}={value}" for key, value in texts.items()]
    done = bench(*command)
    assert done.code == 0, done.err
    made = tmp_path / "made" / "texts-seed-0" / "embedded"
    assert f"--backbone local-dir:{made}" in done.out
    backbone = CLIPBackbone.load(f"local-dir:{made}", "")
    assert (backbone.image_size, backbone.n_image_blocks) == (student.SIDE, 4)
    assert backbone.encode_text(backbone.tokenize(["a damaged object"])).isfinite().all()
    again = bench(*command)
    assert (again.code, again.out.splitlines()[-2:]) == (0, done.out.splitlines()[-2:])
    other = bench(*command, "text.lr=0.5")
    assert other.code == 2
    assert "was made with lr=0.001; asked for lr=0.5." in other.err
    refused = bench(*command, "text.steps=3")
    assert (refused.code, "one of pairs, text_steps" in refused.err) == (2, True)
