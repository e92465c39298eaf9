"""A cell keeps its identity and its layout on disk, whatever its settings are in memory."""

import dataclasses
import json
from pathlib import Path

import pytest

from benchmark.records.store import Store, checksum
from benchmark.request.cell import Where, from_json
from benchmark.request.groups import ProtocolSettings, TrainerSettings
from benchmark.request.plan import make_plan
from benchmark.request.settings import Layer, compose, parse_words

#: Written before settings had types: a cell as `dataclasses.asdict` laid it out, with its hashes.
RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "recorded_cell.json").read_text())
#: First cells of requests with their hashes as they were before settings had types.
KNOWN = [
    (("toy_mean", "mvtec_ad", ["method.scale=2"]), "few_shot-bottle-k1-s0-ad21031674", "bce3d32f92", "b04557ac40"),
    (("winclip", "mvtec_ad", []), "zero_shot-bottle-k0-s0-5dde9489e2", "6d0b2dcf14", "82dcb3cbca"),
    (
        (
            "winclip",
            "folder",
            [
                "backbone=vit_l_14_336",
                "backbone.activation=quick_gelu",
                "method.scales=[2]",
                "protocol.precision=bf16",
                "sweep.limit=3",
            ],
        ),
        "zero_shot-a-k0-s0-e742eb4603",
        "930814b298",
        "86fc34c3ad",
    ),
    (
        (
            "faprompt",
            "procedural",
            [
                "protocol.auxiliary=procedural_auxiliary",
                "protocol.regions=native",
                "dataset.procedural_auxiliary.size=64",
            ],
        ),
        "zero_shot-corduroy-k0-s0-5ef9c4813c",
        "887a281cb5",
        "6a36b4329b",
    ),
]


def plan(methods, datasets=("mvtec_ad",), words=(), **sweep):
    layer = Layer("test", {"sweep": {"methods": methods, "datasets": list(datasets), **sweep}})
    return make_plan(compose([layer, parse_words(words)]), {"folder": ("a", "b")})


def first(method, dataset, words):
    return plan([method], [dataset], words, shots=[1], seeds=[0]).cells[0]


def without(cell, *later):
    """The cell as it was before its method had some settings, and `folder` more than its layout."""
    its = {key: value for key, value in cell.settings.method.items() if key not in later}
    data = cell.settings.dataset
    data = {"layout": data["layout"]} if cell.dataset == "folder" else data
    return dataclasses.replace(cell, settings=dataclasses.replace(cell.settings, method=its, dataset=data))


@pytest.mark.usefixtures("protocol_4")
@pytest.mark.parametrize(("asked", "name", "setup", "words"), KNOWN)
def test_a_request_has_the_identity_that_it_had_before_settings_had_types(asked, name, setup, words):
    cell = without(first(*asked), "text")
    assert (cell.id, cell.setup, cell.words) == (f"{asked[0]}-{asked[1]}-{name}", setup, words)


def test_labels_places_and_what_a_backbone_offers_are_no_part_of_the_identity():
    cell = first("toy_mean", "mvtec_ad", [])
    other = dataclasses.replace(cell, label="wide", where=Where(results="/r", trainer=TrainerSettings(batch_size=1)))
    assert (other.id, other.setup, other.words) == (cell.id, cell.setup, cell.words)
    assert first("toy_mean", "mvtec_ad", ["backbone.offers=[patch_tokens]"]).id == cell.id


@pytest.mark.usefixtures("protocol_4")
def test_a_cell_of_before_is_read_as_it_was_and_written_as_it_was():
    cell = from_json(RECORDED["cell"])
    assert (cell.id, cell.setup, cell.words) == (RECORDED["id"], RECORDED["setup"], RECORDED["words"])
    assert cell.method_label == "faprompt(sigma=2.0)"
    assert cell.protocol_label == "zero_shot(auxiliary=procedural_auxiliary, evaluation_size=64)"
    written = json.loads(json.dumps(dataclasses.asdict(cell)))
    assert written.pop("label") == ""
    assert written["settings"]["backbone"].pop("offers") == ["text_tower", "patch_tokens"]
    assert written["settings"]["backbone"].pop("forced_activation") is None
    assert written["where"].pop("predictions") == {"keep": True, "max_mib": 64.0, "fit_max_mib": 32.0}
    assert written["where"]["logger"].pop("worst") == 8
    assert written["where"]["trainer"].pop("devices") == 1
    assert written["where"]["trainer"].pop("pixel_cache_gib") == 4.0
    assert written == RECORDED["cell"]


@pytest.mark.usefixtures("protocol_4")
def test_keys_that_an_older_record_lacks_or_had_are_no_error(tmp_path):
    fields = json.loads(json.dumps(RECORDED["cell"]))
    for key in ("regions", "published_metric", "precision"):
        del fields["settings"]["protocol"][key]
        del fields["defaults"]["protocol"][key]
    fields["settings"]["protocol"]["given_up"] = 3
    fields["where"]["trainer"] = {"accelerator": "cpu", "strategy": "ddp"}
    del fields["where"]["features"], fields["fitted"], fields["settings"]["backbone"]["activation"]
    fields["of_another_time"] = []
    path = tmp_path / "cells" / RECORDED["id"] / "attempt-1.json"
    path.parent.mkdir(parents=True)
    record = {"cell_id": RECORDED["id"], "attempt": 1, "status": "ok", "sweep": "s", "argv": [], "started": ""}
    record |= {"cell": fields, "schema": 2}
    path.write_text(json.dumps(record | {"checksum": checksum(record)}))
    store = Store(tmp_path)
    cell = store.whole(store.current(RECORDED["id"])).cell
    auxiliary = {"auxiliary": "procedural_auxiliary", "evaluation_size": 64}
    assert cell.settings.protocol == ProtocolSettings(**auxiliary)
    assert cell.where.trainer == TrainerSettings(accelerator="cpu")
    assert cell.id == RECORDED["id"]
    assert cell.protocol_label == "zero_shot(auxiliary=procedural_auxiliary, evaluation_size=64)"


def test_settings_cannot_be_changed_in_place():
    cell = first("toy_mean", "mvtec_ad", [])
    for owner, name in ((cell, "settings"), (cell.settings, "protocol"), (cell.settings.protocol, "regions")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(owner, name, None)
