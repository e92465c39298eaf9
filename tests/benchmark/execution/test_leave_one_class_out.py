"""The category that is tested never reaches the fit; the record says what did."""

import dataclasses
import json

import pytest
from PIL import Image
from twins import write_mvtec_category

from benchmark.request.cell import from_json
from benchmark.request.merging import Layer
from benchmark.request.plan import make_plan
from benchmark.request.registry import ConfigError
from benchmark.request.settings import compose

PARTS = ("cap", "nut", "pin")
WORDS = ("--protocols", "leave_one_class_out", "--shots", "2", "--seeds", "0", "protocol.evaluation_size=24")


@pytest.fixture
def parts(tmp_path):
    """Three categories in MVTec layout."""
    for number, part in enumerate(PARTS):
        write_mvtec_category(tmp_path / "parts" / part, seed=100 * number)
    return tmp_path / "parts"


REMARK = "Everything [shown] is noted."


@pytest.fixture
def watch(bench, parts, tmp_path):
    """Run `toy_watches`; returns the records by held-out category, each with what the method was shown."""

    def run(results="r", *words):
        from toy_methods.toy_watches import SHOWN

        SHOWN.clear()
        command = ("run", "--methods", "toy_watches", "--datasets", "folder", f"dataset.root={parts}")
        done = bench(*command, *WORDS, *words, "--results", tmp_path / results)
        assert done.code == 0, done.err
        starts = [i for i, event in enumerate(SHOWN) if event[0] == "made"]
        shown = [SHOWN[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
        made = [json.loads(path.read_text()) for path in (tmp_path / results).glob("cells/*/attempt-*.json")]
        made.sort(key=lambda record: record["cell"]["categories"])
        return {r["cell"]["categories"][0]: (r, events) for r, events in zip(made, shown, strict=True)}

    return run


@pytest.mark.slow
def test_a_record_and_the_screen_hold_what_the_method_remarks(bench, parts, tmp_path):
    command = ("run", "--methods", "toy_watches", "--datasets", "folder", f"dataset.root={parts}", *WORDS)
    assert bench(*command, "--results", tmp_path).out.count(f"note: {REMARK}") == len(PARTS)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("cells/*/attempt-*.json")]
    assert [record["remarks"] for record in records] == [[REMARK]] * len(PARTS)


@pytest.mark.slow
def test_the_loss_sees_the_shots_of_the_others_alone(watch):
    found = watch()
    assert set(found) == set(PARTS)
    for held, (record, events) in found.items():
        others = [part for part in PARTS if part != held]
        shots = {part: {shot["path"] for shot in record["data"]["shots"][part]} for part in PARTS}
        assert [len(names) for names in shots.values()] == [2, 2, 2]
        assert {event[1:] for event in events if event[0] == "loss"} == {
            (part, name) for part in others for name in shots[part]
        }
        stages = list(dict.fromkeys(event[:2] if event[0] == "adapt" else event[:1] for event in events))
        expected = [("made",), *(("adapt", part) for part in others), ("loss",), ("adapt", held), ("predict",)]
        assert stages == expected
        assert {event[1] for event in events if event[0] == "predict"} == {held}
        assert record["cell"]["fitted"] == others
        assert set(record["metrics"]) == set(record["counts"]) == {held}
        assert set(record["content"]["data"]) == set(PARTS)
    assert len({record["comparison_id"] for record, _ in found.values()}) == len(PARTS)


@pytest.mark.slow
def test_what_is_learnt_does_not_depend_on_the_images_held_out(watch, parts):
    def learnt(found):
        return {held: events[-1][2] for held, (_, events) in found.items()}

    before = watch()
    for image in (parts / "nut").rglob("*/good/*.png"):
        Image.new("RGB", (24, 20), "white").save(image)
    after = watch("again")
    assert [held for held in PARTS if learnt(before)[held] == learnt(after)[held]] == ["nut"]
    assert all(before[held][0]["comparison_id"] != after[held][0]["comparison_id"] for held in PARTS)


@pytest.mark.slow
def test_a_change_of_a_category_that_is_fitted_on_makes_a_record_stale(bench, watch, parts, tmp_path):
    words = ("--categories", "cap")
    watch("r", *words)
    next((parts / "pin" / "train" / "good").iterdir()).unlink()
    command = ("run", "--methods", "toy_watches", "--datasets", "folder", f"dataset.root={parts}", *WORDS, *words)
    assert "1 stale" in bench(*command, "--results", tmp_path / "r", "--dry-run").out


def test_a_category_that_lacks_shots_is_refused_before_anything_runs(bench, parts, tmp_path):
    for image in list((parts / "pin" / "train" / "good").iterdir())[1:]:
        image.unlink()
    command = ("run", "--methods", "toy_watches", "--datasets", "folder", f"dataset.root={parts}", *WORDS)
    done = bench(*command, "--categories", "cap", "--results", tmp_path / "r")
    assert done.code == 2
    assert "pin" in done.err


def plan(method, *, dataset="mvtec_ad", **sweep):
    layer = Layer("test", {"sweep": {"methods": [method], "datasets": [dataset], "shots": [1], "seeds": [0], **sweep}})
    return make_plan(compose([layer]), {})


def held_out(**sweep):
    request = {"protocols": ["leave_one_class_out"], "shots": [1, 2], "seeds": [0, 1], **sweep}
    return plan("toy_watches", dataset="visa", **request).cells


def test_a_cell_for_each_category_held_out_which_fewer_categories_do_not_change():
    every = held_out()
    assert len({cell.id for cell in every}) == 12 * 2 * 2
    assert all(len(cell.fitted) == 11 and cell.categories[0] not in cell.fitted for cell in every)
    assert all(set(cell.seen) == {*cell.fitted, *cell.categories} and cell.part in cell.id for cell in every)
    some = held_out(categories=["pcb1", "candle"])
    assert {cell.id for cell in some} == {cell.id for cell in every if cell.part in ("pcb1", "candle")}


def test_what_is_fitted_on_is_part_of_the_identity_and_survives_json():
    cell = held_out(categories=["pcb1"])[0]
    assert from_json(json.loads(json.dumps(dataclasses.asdict(cell)))) == cell
    assert dataclasses.replace(cell, fitted=cell.fitted[1:]).id != cell.id
    joint = plan("toy_watches").cells[0]
    fields = dataclasses.asdict(joint)
    assert fields.pop("fitted") == ()
    assert from_json(fields).id == joint.id  # records of before this protocol have no such field


def test_what_cannot_hold_a_category_out_is_refused_or_left_out():
    reason = "it fits nothing on shots, so no category can be held out of a fit"
    with pytest.raises(ConfigError, match=f"winclip honours zero_shot, few_shot, multi_class; .*: {reason}"):
        plan("winclip", protocols=["leave_one_class_out"])
    notes = plan("winclip", protocols=["few_shot", "leave_one_class_out"]).notes
    assert notes == (
        f"left out: winclip in leave_one_class_out; it honours zero_shot, few_shot, multi_class: {reason}",
    )
    with pytest.raises(ConfigError, match=r"toy_learns honours few_shot; .* leave_one_class_out\.$"):
        plan("toy_learns", protocols=["leave_one_class_out"])


def test_one_category_alone_is_refused(bench, tmp_path):
    write_mvtec_category(tmp_path / "parts" / "cap")
    command = ("run", "--methods", "toy_watches", "--datasets", "folder", f"dataset.root={tmp_path / 'parts'}")
    done = bench(*command, *WORDS, "--results", tmp_path / "r")
    assert done.code == 2
    assert "it needs two or more; folder has cap alone" in " ".join(done.err.split())
