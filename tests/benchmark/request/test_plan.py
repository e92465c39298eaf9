"""A request becomes the right cells, or is refused before anything runs."""

import dataclasses
import hashlib
import json

import pytest

from benchmark.request.cell import DEMO_NOTE, RANDOM_NOTE, from_json
from benchmark.request.plan import make_plan
from benchmark.request.registry import ConfigError
from benchmark.request.settings import Layer, compose, parse_words


def plan(methods, datasets=("mvtec_ad",), words=(), **sweep):
    layer = Layer("test", {"sweep": {"methods": list(methods), "datasets": list(datasets), **sweep}})
    return make_plan(compose([layer, parse_words(words)]), {"folder": ("a", "b")})


def test_few_shot_has_a_cell_per_category_and_multi_class_one_for_all():
    made = plan(["toy_mean"], protocols=["few_shot", "multi_class", "zero_shot"], shots=[1, 2], seeds=[0, 1, 2])
    counts = {p: sum(cell.protocol == p for cell in made.cells) for p in ("few_shot", "multi_class", "zero_shot")}
    assert counts == {"few_shot": 15 * 2 * 3, "multi_class": 2 * 3, "zero_shot": 15}
    assert len({cell.id for cell in made.cells}) == len(made.cells)
    assert any("one seed is enough" in note for note in made.notes)


def test_each_method_runs_in_its_first_protocol_unless_asked():
    made = plan(["toy_mean", "toy_transfers"], ["visa"], categories=["pcb1"], shots=[1], seeds=[0])
    assert [(cell.method, cell.protocol, cell.shots) for cell in made.cells] == [
        ("toy_mean", "few_shot", 1),
        ("toy_transfers", "zero_shot", 0),
    ]
    assert made.cells[1].settings.protocol.auxiliary == "mvtec_ad"
    assert plan(["toy_transfers"], ["mvtec_ad"]).cells[0].settings.protocol.auxiliary == "visa"


def test_shots_that_a_protocol_does_not_use_are_said():
    note = "shots are not used: toy_mean runs in zero_shot; --protocols few_shot uses them"
    assert note in plan(["toy_mean"], protocols=["zero_shot"], shots=[1]).notes
    assert note not in plan(["toy_mean"], protocols=["zero_shot"]).notes


def test_identity_is_what_changes_numbers():
    def identity(**changes):
        words = changes.pop("words", ())
        return (
            plan(["toy_mean"], words=words, categories=["bottle"], shots=[1], seeds=changes.pop("seeds", [0]))
            .cells[0]
            .id
        )

    same = identity()
    for words in (["trainer.num_workers=3"], ["trainer.accelerator=cpu"], ["dataset.root=/x"], ["logger=wandb"]):
        assert identity(words=words) == same
    for words in (["method.scale=2"], ["protocol.evaluation_size=99"], ["protocol.precision=bf16"], ["sweep.limit=3"]):
        assert identity(words=words) != same
    assert identity(words=["backbone=vit_l_14_336"]) != same
    assert identity(seeds=[1]) != same


def test_a_part_of_the_test_images_is_another_cell():
    parts = ([], ["dataset.textile.per_kind=50"])
    assert len({plan(["toy_mean"], ["textile"], words=words, shots=[1]).cells[0].id for words in parts}) == 2


def test_a_cell_survives_json():
    cell = plan(["toy_mean"], shots=[1], seeds=[0]).cells[0]
    again = from_json(json.loads(json.dumps(dataclasses.asdict(cell))))
    assert again.id == cell.id
    assert again.method_label == "toy_mean"


def test_a_checkpoint_is_named_by_its_stem_and_content(tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"weights")
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    for words, label, note in (
        (["backbone.name=ViT-B-32"], f"ViT-B-32/mine-{digits}", ""),
        ([], f"embedded-demo mine-{digits}", DEMO_NOTE),
    ):
        cell = plan(["toy_mean"], words=[*words, f"backbone.pretrained={path}"]).cells[0]
        assert (cell.backbone_label, cell.note) == (label, note)


def test_labels_name_what_was_overridden():
    cell = plan(["toy_mean"], words=["method.scale=2", "protocol.precision=bf16", "backbone.image_size=64"]).cells[0]
    assert cell.method_label == "toy_mean(scale=2.0)"
    assert cell.backbone_label == "embedded-demo 64px bf16"
    forced = plan(["toy_mean"], words=["backbone=vit_l_14_336_gelu"]).cells[0]
    assert forced.backbone_label == "ViT-L-14-336/openai run with gelu 518px positions open_clip"


def test_an_activation_against_the_training_is_another_cell():
    same, forced = (
        plan(["toy_mean"], words=[f"backbone.forced_activation={said}"]).cells[0] for said in ("null", "quick_gelu")
    )
    assert same.id == plan(["toy_mean"]).cells[0].id
    assert "forced_activation" not in same.by_content["backbone"]
    assert forced.id != same.id
    assert (forced.setup, forced.backbone_label) != (same.setup, same.backbone_label)


@pytest.mark.parametrize(
    ("word", "label", "note"),
    [
        ("backbone.pretrained=demo", "embedded-demo", DEMO_NOTE),
        ("backbone.pretrained=random", "embedded-random", RANDOM_NOTE),
        ("backbone=ViT-B-32/openai", "ViT-B-32/openai", ""),
        ("backbone=ViT-B-32-quickgelu/openai", "ViT-B-32/openai", ""),  # weights, which have one activation
    ],
)
def test_the_stamp_of_the_embedded_backbone_follows_its_weights(word, label, note):
    cell = plan(["toy_mean"], words=[word]).cells[0]
    assert (cell.backbone_label, cell.note) == (label, note)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": []}, "no methods requested"),
        ({"methods": ["toy_mean"], "datasets": []}, "no datasets requested"),
        ({"methods": ["toy_mean", "toy_mean"]}, "--methods must name each one once, got toy_mean, toy_mean"),
        ({"methods": ["toy_maen"]}, "unknown method 'toy_maen'. Did you mean 'toy_mean'"),
        ({"methods": ["toy_mean"], "datasets": ["viza"]}, "unknown dataset 'viza'. Did you mean 'visa'"),
        ({"methods": ["toy_mean"], "protocols": ["fewshot"]}, "unknown protocol 'fewshot'. Did you mean 'few_shot'"),
        (
            {"methods": ["toy_mean"], "categories": ["botle"]},
            "unknown category of mvtec_ad 'botle'. Did you mean 'bottle'",
        ),
        ({"methods": ["toy_mean"], "datasets": ["folder"], "categories": ["c"]}, "Allowed: a, b"),
        ({"methods": ["toy_mean"], "shots": [0]}, "toy_mean in few_shot needs shots of 1 or more.*zero_shot"),
        ({"methods": ["toy_breaks"], "shots": [0, 1]}, "toy_breaks in few_shot needs shots of 1 or more"),
        (
            {"methods": ["toy_breaks"], "protocols": ["zero_shot"]},
            "toy_breaks honours few_shot.*cannot run without shots",
        ),
        (
            {"methods": ["toy_mean"], "seeds": [-1]},
            r"sweep.seeds \(test\) must hold numbers at least 0 and at most 4294967295, got \[-1\]",
        ),
        (
            {"methods": ["toy_mean"], "words": ["protocol.auxiliary=mvtec_ad"]},
            "protocol.auxiliary=mvtec_ad is also a target",
        ),
        (
            {"methods": ["toy_mean"], "words": ["protocol.evaluation_size=0"]},
            r"evaluation_size \(command line\) must be at least 8 and at most 4096, got 0",
        ),
        (
            {"methods": ["toy_mean"], "words": ["trainer.batch_size=0"]},
            r"batch_size \(command line\) must be at least 1, got 0",
        ),
        ({"methods": ["toy_mean"], "limit": 0}, r"sweep.limit \(test\) must be at least 1, got 0"),
    ],
)
def test_wrong_requests_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        plan(**arguments)


def test_an_unsupported_protocol_beside_a_supported_one_is_left_out_and_said():
    made = plan(["toy_breaks"], protocols=["few_shot", "zero_shot"])
    assert {cell.protocol for cell in made.cells} == {"few_shot"}
    assert made.notes == ("left out: toy_breaks in zero_shot; it honours few_shot",)
