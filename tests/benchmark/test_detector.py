"""A detector says of a recorded cell's test images what the cell said, and of others what its shots make of them."""

import importlib
import io
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from steps import shorten_fits
from twins import VISA_ALL, write_mvtec_ad, write_visa

from benchmark import Detector, cli
from benchmark.execution import fitting, kept_fit
from benchmark.records import predictions
from benchmark.records.finding import RecordError
from benchmark.records.heat_maps import heat_map, span_of
from benchmark.records.store import Store
from benchmark.request.registry import ConfigError
from datamodules.components.sample import DataError
from methods.components.clip.backbone import BackboneError

FEW = ("--protocols", "few_shot", "--shots", "2", "--categories", "bottle")
BOTH = ("--categories", "bottle,metal_nut", "--shots", "1", "--protocols")
LEFT_OUT = (*BOTH, "leave_one_class_out", "--datasets", "parts={root}/mvtec_ad")
#: What is run.
RUNS = (
    ("nearest_patch,promptad,april_gan", FEW),
    ("patchcore", (*BOTH, "multi_class", "method.patchcore.coreset=0.5")),
    ("promptad", LEFT_OUT),
    ("april_gan", ("--protocols", "zero_shot", "--categories", "metal_nut")),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with twins of two data sets."""
    data = tmp_path_factory.mktemp("data")
    write_mvtec_ad(data / "mvtec_ad", ["bottle", "metal_nut"])
    write_visa(data / "visa", VISA_ALL)
    return data


@pytest.fixture(scope="module")
def results(root, tmp_path_factory):
    """The results folder of real runs; all test images of a category make one batch."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_DATA", str(root))
        shorten_fits(patch)
        for methods, words in RUNS:
            where = () if "--datasets" in words else ("--datasets", "mvtec_ad")
            common = (*where, "--seeds", "1", "trainer.batch_size=7", "protocol.evaluation_size=24")
            argv = ["bench", "run", "--methods", methods, *words, *common, "--results", str(folder)]
            patch.setattr(sys, "argv", [word.format(root=root) for word in argv])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert stop.value.code in (0, None)
    return folder


@pytest.fixture(autouse=True)
def _short(root, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(root))
    shorten_fits(monkeypatch)


def records(folder):
    store = Store(folder)
    return {record.cell_id: store.whole(record) for record in store.all_current()}


def one(folder, start):
    (found,) = [record for cell_id, record in records(folder).items() if cell_id.startswith(start)]
    return found


def said(folder, record, category):
    """Names of a category's test images and what the cell said of them."""
    kept = predictions.read(predictions.path_of(folder, record))
    rows = [row for row, its in enumerate(kept.categories) if its == category]
    return [kept.names[row] for row in rows], kept.scores[rows]


def scores_of(detector, root, names):
    scored = detector.score_files([root / "mvtec_ad" / name for name in names])
    assert scored.errors == {}
    return scored.scores


@pytest.mark.slow
def test_every_cell_says_the_same_again_to_the_last_bit(results, root):
    found = records(results)
    assert len(found) == 3 + 1 + 2 + 1
    for cell_id, record in found.items():
        assert kept_fit.path_of(results, record).is_file() == bool(record.cell.shots), cell_id
        for category in record.cell.categories:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                detector = Detector.from_record(cell_id, results=results, category=category)
            names, scores = said(results, record, category)
            assert len(names) == 7
            assert np.array_equal(scores_of(detector, root, names), scores), cell_id


@pytest.mark.slow
@pytest.mark.parametrize("start", ["nearest_patch", "promptad-mvtec_ad", "promptad-folder", "april_gan-mvtec_ad-few"])
def test_without_its_fit_a_cell_is_fitted_again_on_its_shots_to_the_same_bits(results, root, tmp_path, start):
    folder = shutil.copytree(results, tmp_path / "r")
    record = next(record for cell_id, record in records(folder).items() if cell_id.startswith(start))
    kept_fit.path_of(folder, record).unlink()
    category = record.cell.categories[0]
    with pytest.warns(UserWarning, match="was not kept: the method was fitted again on the same shots"):
        detector = Detector.from_record(folder / "cells" / record.cell_id, category=category)
    names, scores = said(folder, record, category)
    assert np.array_equal(scores_of(detector, root, names), scores)


@pytest.fixture
def moved(results, root, tmp_path, monkeypatch):
    """Copies of results and data that a test may damage."""
    monkeypatch.setenv("BENCH_DATA", str(shutil.copytree(root, tmp_path / "data")))
    return shutil.copytree(results, tmp_path / "r"), tmp_path / "data"


def test_shots_that_are_gone_or_changed_leave_no_percentiles_and_fit_nothing(moved):
    folder, data = moved
    record = one(folder, "nearest_patch")
    shot = data / "mvtec_ad" / record.data["shots"]["bottle"][0]["path"]
    Image.new("RGB", (24, 20)).save(shot)
    with pytest.warns(UserWarning, match=r"No percentiles: .*png has changed since nearest_patch"):
        detector = Detector.from_record(record.cell_id, results=folder)
    with pytest.raises(DataError, match="two normal images or more, got 0; No percentiles"):
        detector.threshold(0.5)
    kept_fit.path_of(folder, record).unlink()
    with pytest.raises(DataError, match="has changed since nearest_patch"):
        Detector.from_record(record.cell_id, results=folder)
    shot.unlink()
    with pytest.raises(DataError, match="is gone, which was a shot of"):
        Detector.from_record(record.cell_id, results=folder)


def test_changed_code_is_said_and_other_weights_are_refused(results, monkeypatch):
    record = one(results, "nearest_patch")
    monkeypatch.setattr("benchmark.execution.revive.code", lambda cell: {**record.content["code"], "methods/x.py": "1"})
    with pytest.warns(UserWarning, match=r"there changed code: methods/x.py: scores may differ"):
        detector = Detector.from_record(record.cell_id, results=results)
    assert any("methods/x.py" in remark for remark in detector.remarks)
    with pytest.raises(BackboneError, match="was measured on embedded-demo, weights"):
        Detector.from_record(record.cell_id, results=results, backbone="embedded_random")


def test_a_record_is_found_by_all_that_can_be_copied(results):
    record = one(results, "nearest_patch")
    cell = results / "cells" / record.cell_id
    places = [(cell, None), (str(cell / "attempt-1.json"), None), (results / record.cell_id, None)]
    for place, folder in [*places, (record.cell_id, str(results))]:
        assert Detector.from_record(place, results=folder).cell.id == record.cell_id
    with pytest.raises(ConfigError, match=f"Did you mean '{record.cell_id}'"):
        Detector.from_record(f"{record.cell_id}0", results=results)
    with pytest.raises(RecordError, match="has no cells"):
        Detector.from_record(record.cell_id)
    with pytest.raises(RecordError, match="cannot be read as a record"):
        Detector.from_record(cell / "attempt-7.json")


def test_of_several_categories_one_must_be_named(results):
    cell = one(results, "patchcore").cell_id
    with pytest.raises(ConfigError, match="knows bottle, metal_nut: say which one"):
        Detector.from_record(cell, results=results)
    with pytest.raises(ConfigError, match=r"unknown category .*Did you mean 'bottle'"):
        Detector.from_record(cell, results=results, category="botle")


def test_a_failed_cell_has_no_detector(moved):
    folder, _ = moved
    record = one(folder, "nearest_patch")
    Store(folder).save(type(record)(**{**vars(record), "attempt": 2, "status": "failed", "error": {"message": "boom"}}))
    assert Detector.from_record(record.cell_id, results=folder).cell.id == record.cell_id  # the last success counts
    with pytest.raises(RecordError, match="has not succeeded: boom"):
        Detector.from_record(folder / "cells" / record.cell_id / "attempt-2.json")


# Detectors that no record is behind.


@pytest.fixture(scope="module")
def shots(root):
    return sorted((root / "mvtec_ad" / "bottle" / "train" / "good").iterdir())


def test_a_new_detector_on_the_shots_of_a_cell_is_that_cell(results, root):
    record = one(results, "promptad-mvtec_ad")
    paths = [root / "mvtec_ad" / shot["path"] for shot in record.data["shots"]["bottle"]]
    names, scores = said(results, record, "bottle")
    words = ["trainer.batch_size=7", "protocol.evaluation_size=24"]
    before = torch.rand(3, generator=torch.default_generator.manual_seed(3))
    torch.default_generator.manual_seed(3)
    detector = Detector("promptad", object_name="bottle", seed=1, words=words).fit(paths)
    assert torch.equal(torch.rand(3), before)  # a fit leaves the caller's random numbers alone
    assert np.array_equal(scores_of(detector, root, names), scores)


def test_paths_pil_images_and_tensors_are_the_same_images(shots, root):
    photo = min((root / "mvtec_ad" / "bottle" / "test").glob("b*/*.png"))
    whole = Detector("nearest_patch").fit(str(shots[0].parent))
    one = whole.predict(str(photo))
    tensor = torch.from_numpy(np.array(Image.open(photo))).permute(2, 0, 1)
    same = [photo, Image.open(photo), tensor, tensor / 255, [photo], tensor[None], str(photo.with_name("00[0]*"))]
    for given in same:
        found = whole.predict(given)
        (result,) = found if isinstance(found, list) else [found]
        assert isinstance(found, list) == (given in same[4:5] or given is same[5] or given is same[6])
        assert result.score == one.score
        assert np.array_equal(result.anomaly_map, one.anomaly_map)
    pictures = [Image.open(path) for path in shots]
    for given in (
        shots,
        pictures,
        torch.stack([torch.from_numpy(np.array(each)).permute(2, 0, 1) for each in pictures]),
    ):
        assert Detector("nearest_patch").fit(given).predict(photo).score == one.score


def test_a_left_out_score_is_that_of_a_fit_on_the_others(shots):
    detector = Detector("promptad", object_name="bottle").fit(shots[:3])
    wanted = [
        Detector("promptad", object_name="bottle").fit([*shots[:place], *shots[place + 1 : 3]]).predict(shots[place])
        for place in range(3)
    ]
    assert detector.percentile(0.0) is None
    assert detector.predict(shots[4]).percentile is None
    assert detector.leave_one_out() == [result.score for result in wanted]
    assert detector.refits
    assert detector.threshold(0.25).value == max(detector.leave_one_out())
    score = detector.predict(shots[4]).score
    below = sum(normal < score for normal in detector.leave_one_out())
    assert detector.predict(shots[4]).percentile == pytest.approx(100 * below / 3)


@pytest.mark.parametrize("method", ["trivial_pixel_difference", "patchcore"])
def test_likewise_where_nothing_is_learnt(shots, method):
    detector = Detector(method, object_name="bottle").fit(shots[:3])
    before = detector.predict(shots[4]).score
    others = Detector(method, object_name="bottle").fit(shots[1:3])
    assert detector.leave_one_out()[0] == others.predict(shots[0]).score
    assert not detector.refits
    assert detector.predict(shots[4]).score == before


def test_a_record_leaves_one_out_of_its_own_shots(results, root):
    record = one(results, "nearest_patch")
    detector = Detector.from_record(record.cell_id, results=results)
    first, second = (root / "mvtec_ad" / shot["path"] for shot in record.data["shots"]["bottle"])
    new = Detector("nearest_patch", seed=1, words=["protocol.evaluation_size=24"])
    assert detector.leave_one_out() == [new.fit([b]).predict(a).score for a, b in ((first, second), (second, first))]


def test_a_method_that_sees_no_shots_only_compares_with_them(shots):
    plain = Detector("trivial_colour_outlier")
    scores = [result.score for result in plain.predict(shots)]
    detector = Detector("trivial_colour_outlier").fit(shots)
    assert detector.cell.shots == 0
    assert detector.leave_one_out() == scores
    with pytest.raises(DataError, match="two normal images or more, got 0"):
        plain.leave_one_out()


def test_a_record_without_shots_is_compared_with_any(results, shots):
    record = one(results, "april_gan-mvtec_ad-zero")
    detector = Detector.from_record(record.cell_id, results=results).fit(shots)
    assert detector.leave_one_out() == [detector.predict(shot).score for shot in shots]  # each in a batch of its own


def test_a_fit_on_an_auxiliary_set_is_made_once_and_kept_in_the_cache(shots, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    calls, real = [], fitting._train
    monkeypatch.setattr(fitting, "_train", lambda *arguments: calls.append(arguments) or real(*arguments))
    words = ["protocol.auxiliary=visa"]
    first, second = (Detector("linear_heads", words=words).predict(shots[0]) for _ in range(2))
    assert (first.score, len(calls)) == (second.score, 1)
    assert len([*(tmp_path / "cache" / "detectors" / "fits").iterdir()]) == 1


def test_a_method_of_both_kinds_needs_no_shots(shots):
    zero = Detector("winclip", object_name="bottle").predict(shots[0])
    fitted = Detector("winclip", object_name="bottle").fit(shots[1:3]).predict(shots[0])
    assert zero.score != fitted.score


def test_maps_lie_on_their_images_whatever_their_proportions(tmp_path):
    pixels = np.full((60, 180, 3), 90, np.uint8)
    pixels[40:55, 130:150] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    result = Detector("trivial_colour_outlier", squares=12).predict(tmp_path / "wide.png")
    assert result.anomaly_map.shape == (60, 180)
    row, column = np.unravel_index(result.anomaly_map.argmax(), (60, 180))
    assert (40 <= row < 55, 130 <= column < 150) == (True, True)
    shown = np.asarray(result.show(), int)
    assert shown.shape == (60, 180, 3)
    warm = shown[..., 0] - shown[..., 2]
    assert warm[41:54, 132:148].min() > warm[:30, :100].max()
    assert Image.open(io.BytesIO(result._repr_png_())).size == (180, 60)


def test_colours_of_one_call_share_a_scale():
    picture, maps = Image.new("RGB", (30, 20), (128, 128, 128)), np.zeros((2, 8, 8), np.float32)
    maps[1, :, 4:] = 1
    low, high = (np.asarray(heat_map(picture, each, span_of(maps)), int) for each in maps)
    assert np.array_equal(low[:, :12], high[:, :12])
    assert np.abs(low - high)[:, 20:].min() > 30
    huge = heat_map(Image.new("RGB", (4000, 1000)), maps[0], span_of(maps))
    assert huge.size == (1280, 320)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Detector("winclop"), "unknown method 'winclop'. Did you mean 'winclip'"),
        (lambda: Detector("winclip"), "writes the name of the object into its prompts: say it with --object"),
        (lambda: Detector("winclip", object_name="a/b"), "printable words without a slash; got 'a/b'"),
        (lambda: Detector("nearest_patch", angle=8), "angle"),
        (lambda: Detector("nearest_patch", angles=0), "angles"),
        (lambda: Detector("nearest_patch", backbone="vit"), "unknown backbone 'vit'"),
        (lambda: Detector("nearest_patch").predict(str(Path(__file__).parent)), "holds no image"),
        (lambda: Detector("nearest_patch").predict(torch.rand(3, 8, 8)), "needs normal images: give some"),
        (lambda: Detector("nearest_patch").fit([]), "no normal image to fit on"),
        (lambda: Detector("nearest_patch").fit("/no/such"), "no file, folder or match '/no/such'"),
        (lambda: Detector("nearest_patch").fit(torch.rand(2, 4, 8, 8)), r"a tensor must be \(3, H, W\)"),
        (lambda: Detector("nearest_patch").fit(torch.rand(2, 3, 8, 8) * 2), r"float in \[0, 1\]"),
        (lambda: Detector("nearest_patch").fit(3), "must be paths, PIL images, tensors, or a list of them; got int"),
        (lambda: Detector("trivial_colour_outlier").predict([]), "the list is empty"),
        (lambda: Detector("trivial_colour_outlier").predict(__file__), "cannot be read as an image"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(make, words):
    with pytest.raises((ConfigError, DataError), match=words):
        make()


def test_the_same_shot_twice_is_refused(shots, tmp_path):
    shutil.copy(shots[0], tmp_path / "again.png")
    with pytest.raises(DataError, match=r"are the same image: give each normal image once"):
        Detector("nearest_patch").fit([*shots, tmp_path / "again.png"])


def test_a_detector_of_a_record_has_its_shots(results, shots):
    with pytest.raises(ConfigError, match="is fitted already"):
        Detector.from_record(one(results, "nearest_patch").cell_id, results=results).fit(shots)


def test_the_package_loads_torch_only_when_it_is_used():
    code = "import sys, benchmark; assert 'torch' not in sys.modules; assert 'Detector' in benchmark.PUBLIC"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        importlib.import_module("benchmark").Nothing  # noqa: B018
