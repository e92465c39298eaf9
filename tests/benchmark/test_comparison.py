"""What two numbers must share to compare, and what a fit must share to be used again."""

from dataclasses import replace

import pytest
from twins import image, save, write_mvtec_category

from benchmark.execution import fitting
from benchmark.execution.build import build_method, open_backbone
from benchmark.execution.data import open_data, target
from benchmark.execution.run_cell import comparison_id, describe_data
from benchmark.request.cell import Cell
from benchmark.request.code import code_of, hash_code
from benchmark.request.merging import Layer
from benchmark.request.plan import make_plan
from benchmark.request.settings import compose, parse_words

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(("nut", "pin")):
        write_mvtec_category(tmp_path / "part" / name, seed=100 * number)
    return tmp_path / "part"


def cell_of(root, *words, method="toy_mean", **sweep) -> Cell:
    axes = {"methods": [method], "datasets": ["folder"], "categories": ["nut"], "shots": [2], "seeds": [0], **sweep}
    layer = Layer("test", {"sweep": axes, "dataset": {"folder": {"root": str(root)}}})
    return make_plan(compose([layer, parse_words(words)]), {"folder": ("nut", "pin")}).cells[0]


def identity(cell):
    data = open_data(target(cell), 16)
    return comparison_id(cell, data, describe_data(cell, data))


@pytest.mark.parametrize(
    ("words", "sweep"),
    [
        (["method.scale=2"], {}),
        (["backbone.position_resize=open_clip"], {}),
        (["backbone.image_size=64", "protocol.precision=bf16"], {}),
        (["trainer.num_workers=2", "trainer.batch_size=3"], {}),
        ([], {"method": "toy_learns"}),
    ],
)
def test_what_a_method_uses_is_no_part_of_a_comparison(root, words, sweep):
    assert identity(cell_of(root, *words, **sweep)) == identity(cell_of(root))


@pytest.mark.parametrize(
    ("words", "sweep"),
    [
        (["protocol.evaluation_size=24"], {}),
        (["protocol.regions=native"], {}),
        ([], {"limit": 4}),
        ([], {"shots": [1]}),
        ([], {"seeds": [2]}),  # which samples other shots
        ([], {"categories": ["pin"]}),
        ([], {"protocols": ["multi_class"]}),
        ([], {"protocols": ["zero_shot"]}),
    ],
)
def test_what_is_measured_is(root, words, sweep):
    assert identity(cell_of(root, *words, **sweep)) != identity(cell_of(root))


def test_content_decides_and_training_images_that_are_not_sampled_do_not(root):
    before = identity(cell := cell_of(root))
    sampled = {sample.image for sample in open_data(target(cell), 16).sample_shots("nut")}
    (idle, *_) = sorted(path for path in (root / "nut" / "train" / "good").iterdir() if path not in sampled)
    save(image(901), idle)
    assert identity(cell) == before
    save(image(902), min(sampled))
    other_shot = identity(cell)
    save(image(903), root / "nut" / "test" / "good" / "000.png")
    assert len({before, other_shot, identity(cell)}) == 3


def test_a_comparison_without_shots_knows_no_seed(root):
    one, other = (identity(cell_of(root, protocols=["zero_shot"], seeds=[seed])) for seed in (0, 1))
    assert one == other


def test_a_fit_is_another_for_another_file_code_or_pixel(root, monkeypatch):
    cell = cell_of(root, "protocol.auxiliary=procedural_auxiliary", method="toy_transfers")
    method = build_method(cell, open_backbone(cell), open_data(target(cell), 16))

    def key(cell=cell, prints=("1",)):
        return fitting._key(method, cell, dict(zip("a", prints, strict=True)))

    keys = [
        key(),
        key(prints=("2",)),
        key(replace(cell, seed=1)),
        key(replace(cell, files={**cell.files, "method.words": "1"})),
    ]
    monkeypatch.setattr(fitting, "pixel_probe", lambda: "other pixels")
    keys.append(key())
    monkeypatch.setattr(fitting, "code_of", lambda modules: {"m.py": "2"})
    keys.append(key())
    assert len(set(keys)) == len(keys)
    monkeypatch.undo()
    files = {**cell.files, "dataset.shot_list": "1"}
    assert key(replace(cell, dataset="visa", categories=("pcb1",), files=files)) == keys[0]
    moved = replace(cell.settings.backbone, pretrained="/elsewhere/demo.safetensors")
    assert key(replace(cell, settings=replace(cell.settings, backbone=moved))) == keys[0]


def test_the_store_of_a_backbone_knows_the_code_that_computes(root, tmp_path):
    backbone = open_backbone(cell_of(root, "features.enabled=true", f"features.folder={tmp_path / 'f'}"))
    assert backbone.store.code == hash_code(code_of(["methods.components.clip.backbone"]))
    assert len(backbone.store.code) == 64
