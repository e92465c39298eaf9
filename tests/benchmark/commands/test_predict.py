"""`bench predict` as a user calls it: its files, its thresholds, and what it refuses before it computes anything."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from twins import write_mvtec_category

from benchmark.commands.prediction_files import name_files
from benchmark.detector import Detector
from benchmark.execution.given import find_images

METHOD = ("predict", "--method", "trivial_colour_knn", "protocol.evaluation_size=24")


@pytest.fixture
def parts(tmp_path):
    """Shots, and photographs in two folders that share a name; one cannot be read."""
    write_mvtec_category(tmp_path / "parts", seed=0)
    (tmp_path / "parts" / "test" / "good" / "broken.png").write_bytes(b"no image")
    return tmp_path / "parts"


@pytest.fixture
def predict(bench, tmp_path, parts):
    """Call `bench predict` on them; an option that is given again replaces the usual one."""

    def call(*words, method=METHOD, shots=True, where=None):
        usual = ("--shots", parts / "train") if shots else ()
        place = () if "--output" in words else ("--output", tmp_path / "out")
        return bench(*method, *usual, "--input", where or parts / "test", *place, *words)

    return call


def table(folder):
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_has_its_line_and_its_files_and_one_that_cannot_be_read_its_error(predict, parts, tmp_path):
    done = predict()
    assert done.code == 1
    assert "broken.png cannot be read as an image" in done.out
    assert "7 of 8 images scored" in done.out
    rows, out = table(tmp_path / "out"), tmp_path / "out"
    assert [row["image"] for row in rows] == sorted(
        p.relative_to(parts / "test").as_posix() for p in find_images(parts / "test")
    )
    (bad,) = [row for row in rows if row["error"]]
    assert (bad["image"], bad["score"], bad["percentile"], bad["overlay"], bad["map"]) == (
        "good/broken.png",
        "",
        "",
        "",
        "",
    )
    detector = Detector("trivial_colour_knn", words=["protocol.evaluation_size=24"]).fit(parts / "train")
    normal = detector.leave_one_out()
    for row in (row for row in rows if not row["error"]):
        result = detector.predict(parts / "test" / row["image"])
        assert float(np.float32(row["score"])) == result.score
        assert float(row["percentile"]) == pytest.approx(
            100 * np.mean([each < result.score for each in normal]), abs=0.1
        )
        assert np.array_equal(np.load(out / row["map"]), result.measured)
        assert Image.open(out / row["overlay"]).size == (24, 20)
        assert "threshold" not in row
    facts = json.loads((out / "predictions.json").read_text())
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == {*facts["files"], "predictions.json"}
    assert facts["leave_one_out"] == normal
    assert Image.open(out / "contact_sheet.png").width > 800


def test_another_run_replaces_its_own_files_and_no_others(predict, parts, tmp_path):
    predict()
    (tmp_path / "out" / "overlays" / "notes.txt").write_text("mine")
    assert predict(where=parts / "test" / "good" / "00*.png").code == 0
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    names = [f"{kind}/00{n}.{ending}" for kind, ending in (("maps", "npy"), ("overlays", "png")) for n in range(3)]
    assert left == {*names, "overlays/notes.txt", "scores.csv", "contact_sheet.png", "predictions.json"}


@pytest.mark.parametrize("made", ["{}", '{"made_by": "bench predict", "files": ["../parts/train/good/000.png"]}', None])
def test_a_folder_of_another_origin_is_left_alone(predict, parts, tmp_path, made):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "scores.csv").write_text("mine")
    if made:
        (tmp_path / "mine" / "predictions.json").write_text(made)
    done = predict("--output", tmp_path / "mine")
    assert done.code == 2
    assert "holds files that bench predict has not written: choose another --output" in done.err
    assert (tmp_path / "mine" / "scores.csv").read_text() == "mine"
    assert (parts / "train" / "good" / "000.png").is_file()


def test_a_threshold_is_the_rate_that_the_shots_can_resolve(predict, tmp_path):
    done = predict("--false-alarm", "0.01", "--output", tmp_path / "a")
    told = "5 normal images cannot resolve a rate of 0.01, only 1/6: the threshold"
    assert told in done.out
    assert "which about 17% of normal images exceed" in done.out
    done = predict("--false-alarm", "0.5", "--output", tmp_path / "b")
    assert "about 50.00% of normal images exceed it (asked: 50.00%)" in done.out
    for name, rank in (("a", 4), ("b", 2)):
        facts, rows = json.loads((tmp_path / name / "predictions.json").read_text()), table(tmp_path / name)
        limit = sorted(facts["leave_one_out"])[rank]
        assert facts["threshold"]["value"] == limit
        for row in (row for row in rows if not row["error"]):
            assert row["anomalous"] == str(bool(float(np.float32(row["score"])) > limit)).lower()
            assert float(np.float32(row["threshold"])) == limit


def test_shots_among_the_images_are_named(predict, parts):
    done = predict(where=parts / "train")
    assert (
        "000.png, 001.png, 002.png and 2 more are among the shots: their scores say nothing of a new image" in done.out
    )


def test_a_method_without_shots_and_one_that_only_compares_with_them(predict, tmp_path):
    method = ("predict", "--method", "trivial_colour_outlier", "protocol.evaluation_size=24")
    done = predict(method=method, shots=False)
    assert "7 of 8 images scored" in done.out
    assert "No percentiles: they need two normal images or more (--shots)." in done.out
    assert {row["percentile"] for row in table(tmp_path / "out")} == {""}
    assert "among the 5 normal images, which the method has not looked at" in predict(method=method).out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--false-alarm", "2"), "must lie between 0 and 1; got 2.0"),
        (("--record", "x"), "takes either --method, which is fitted now, or --record, which was"),
        (("--object", "a/b"), "printable words without a slash"),
        (("method.squares=0",), "squares"),
        (("--backbone", "vit"), "unknown backbone 'vit'"),
        (("--device", "tpu"), "tpu"),
        (("--results", "r"), "--results says where a --record lies"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(predict, tmp_path, words, told):
    done = predict(*words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not (tmp_path / "out").exists()


def test_images_and_shots_that_are_not_there(predict, bench, parts, tmp_path):
    assert "there is no file, folder or match" in predict(where=tmp_path / "none").err
    (tmp_path / "empty").mkdir()
    assert "holds no image: read are .png" in predict(where=tmp_path / "empty").err
    assert "holds no image" in predict("--shots", tmp_path / "empty", shots=False).err
    assert "needs normal images: give some (--shots, or fit)" in predict(shots=False).err
    assert "cannot be read as an image" in predict("--shots", parts / "test", shots=False).err
    words = ("--false-alarm", "0.1", "--shots", parts / "train" / "good" / "000.png")
    assert "--false-alarm needs two normal images or more (--shots), got 1" in predict(*words, shots=False).err
    assert "takes either --method" in bench("predict", "--input", parts / "test").err
    told = bench("predict", "--record", "x", "--seed", "1", "--input", parts / "test").err
    assert "--seed and KEY=VALUE do not go with --record, which has its own seed and settings" in told
    told = bench("predict", "--record", tmp_path / "none", "--input", parts / "test").err
    assert "is no record: give DIR/cells/ID/attempt-N.json, or ID and --results DIR" in told


def test_names_never_collide(tmp_path):
    names = ["a/x.png", "b/x.png", "a/x.jpg", "a/X.bmp", "c.d.png", "a/x.png.png", "y"]
    found = name_files([tmp_path / name for name in names], tmp_path)
    assert len({name.casefold() for name in found}) == len(names)
    assert (found[1], found[4], found[6]) == ("b/x", "c.d", "y")


@pytest.mark.slow
def test_a_record_is_taken_as_its_page_names_it(bench, data, cells, tmp_path):
    place = ("--methods", "trivial_colour_knn", "--shots", "2", "--seeds", "0", "--results", tmp_path / "r")
    assert bench("run", *place, *cells, "--protocols", "few_shot").code == 0
    (cell,) = [path.name for path in (tmp_path / "r" / "cells").glob("*bottle*")]
    words = ("--record", cell, "--results", tmp_path / "r", "--input", data / "bottle" / "test")
    done = bench("predict", *words, "--output", tmp_path / "out", "--false-alarm", "0.4")
    assert done.code == 0, done
    assert "by 2 left-out ones, about 33.33% of normal images exceed it (asked: 40.00%)" in done.out
    done = bench("predict", *words, "--output", tmp_path / "out", "--shots", data / "bottle" / "train")
    assert f"a detector of a record is fitted already, on the shots of {cell}" in done.err
    shutil.rmtree(data / "bottle" / "train")
    done = bench("predict", *words, "--output", tmp_path / "out")
    assert "No percentiles: " in done.out
    assert "is gone, which was a shot of" in done.out
    assert bench("predict", *words, "--output", tmp_path / "out", "--false-alarm", "0.4").code == 2
