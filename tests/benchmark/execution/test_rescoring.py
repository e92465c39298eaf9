"""What a run has kept gives what another run, under another choice, would have measured."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmark.commands import rescore
from benchmark.execution import rescoring
from benchmark.execution.rescoring import Choice, _score, beyond, open_tests, remeasure, rescored
from benchmark.records.predictions import path_of, read
from benchmark.records.store import Store
from datamodules.components.sample import DataError

pytestmark = pytest.mark.slow
HALF = 2e-3  # what half the bits of a map may change of a metric


@pytest.fixture
def run(bench, data, cells, tmp_path):
    """Run a method on twins and give its records, each with its predictions."""

    def run(name, *words):
        method = () if "--methods" in words else ("--methods", "toy_mean")
        size = [word for word in words if word.startswith("protocol.evaluation_size")]
        mine = [word for word in cells if not (size and word.startswith("protocol.evaluation_size"))]
        place = ("--results", tmp_path / name, "--shots", "1", "--seeds", "0")
        code, out, err = bench("run", *method, *mine, *words, *place)
        assert code == 0, out + err
        store = Store(tmp_path / name)
        return {r.cell.part: (r, read(path_of(store.folder, r))) for r in map(store.whole, store.all_current())}

    return run


def values(metrics):
    return {(c, name): its["value"] for c, of in metrics.items() for name, its in of.items()}


def assert_near(found, wanted, names):
    for key, value in values(wanted).items():
        if key[1] in names:
            assert values(found)[key] == pytest.approx(value, abs=HALF), key


PIXEL = ("pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_AUPRO")
IMAGE = ("image_AUROC", "image_AP", "image_F1Max")


@pytest.mark.parametrize("method", ["patchcore", pytest.param("anovl", marks=pytest.mark.campaign), "toy_mean"])
def test_the_choice_of_the_run_gives_its_metrics_and_another_resolution_those_of_another_run(run, method):
    first = run("a", "--methods", method)
    other = run("b", "--methods", method, "protocol.evaluation_size=57", "protocol.regions=native")
    for category, (record, kept) in first.items():
        tests = open_tests(record.cell, kept)
        same = remeasure(record.cell, kept, tests, Choice())
        assert_near(same, record.metrics, PIXEL)
        assert {k: v for k, v in values(same).items() if k[1] in IMAGE} == {
            k: v for k, v in values(record.metrics).items() if k[1] in IMAGE
        }
        wanted = other[category][0]
        again = rescored(record, kept, tests, Choice(resolution=57, regions="native"))
        assert_near(again.metrics, wanted.metrics, PIXEL)
        assert (again.cell.id, again.cell.setup) == (wanted.cell.id, wanted.cell.setup)
        assert again.comparison_id not in (record.comparison_id, "")


def test_smoothing_is_that_of_scipy_on_the_enlarged_map(run, monkeypatch):
    (record, kept), *_ = run("a").values()
    seen = []
    monkeypatch.setattr(rescoring, "measure_test", lambda parts, *_, **__: seen.extend(parts))
    monkeypatch.setattr(rescoring, "told", lambda _: {})
    small = kept._replace(maps=kept.maps[:, :6, :6])
    remeasure(record.cell, small, None, Choice(resolution=24, smoothing=2.0))
    enlarged = [np.array(Image.fromarray(each).resize((24, 24), Image.Resampling.BILINEAR)) for each in small.maps]
    wanted = np.stack([gaussian_filter(each, 2.0) for each in enlarged])
    found = np.concatenate([part.anomaly_map.numpy() for part in seen])
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_image_scores_follow_their_rules(run):
    (_, kept), *_ = run("a").values()
    maps, own = torch.from_numpy(kept.maps), torch.from_numpy(kept.scores)
    names, flat = ["a", "a", "b", "b", "b", "a", "a"], kept.maps.reshape(len(kept.maps), -1)
    parts = maps.split(3)
    np.testing.assert_array_equal(_score("own", own, parts, names), kept.scores)
    np.testing.assert_array_equal(_score("max", own, parts, names), flat.max(axis=1))
    count = flat.shape[1] // 100
    wanted = np.sort(flat, axis=1)[:, -count:].mean(axis=1)
    np.testing.assert_allclose(_score("top1", own, parts, names), wanted, rtol=1e-5)
    mixed = np.empty(len(flat))
    for name in "ab":
        rows = np.array(names) == name
        units = [(v[rows] - v[rows].min()) / np.ptp(v[rows]) for v in (kept.scores, flat.max(axis=1))]
        mixed[rows] = np.mean(units, axis=0)
    np.testing.assert_allclose(_score("scaled", own, parts, names), mixed, rtol=1e-5)


def test_steps_add_the_pro_that_a_run_would_have_measured(run):
    first, other = run("a"), run("b", "protocol.published_metric=true")
    for category, (record, kept) in first.items():
        again = remeasure(record.cell, kept, open_tests(record.cell, kept), Choice(steps=True))
        assert_near(again, other[category][0].metrics, ("pixel_PRO@200steps",))


def test_images_that_have_changed_are_named_and_left_out(run, bench, data, tmp_path):
    found = run("a")
    record, kept = found["bottle"]
    image = data / kept.names[0]
    Image.fromarray(255 - np.array(Image.open(image))).save(image)
    with pytest.raises(DataError, match="its content differs"):
        open_tests(record.cell, kept)
    code, out, _ = bench("rescore", tmp_path / "a", "--image-score", "max")
    assert code == 0
    assert f"{image} is not the image" in out.replace("\n", "")
    assert "\n1 cells, " in out
    (data / next(name for name in kept.names if "good" in name)).unlink()
    code, out, _ = bench("rescore", tmp_path / "a", "--image-score", "max")
    assert (code, "other test images than toy_mean-mvtec_ad-few_shot-bottle" in out) == (0, True)


def test_tables_of_a_choice_say_it_in_every_row_and_leave_the_folder_as_it_was(run, bench, tmp_path):
    run("a")
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.csv")}
    code, out, _ = bench("rescore", tmp_path / "a", "--smoothing", "3", "--resolution", "32", "--image-score", "top1")
    assert code == 0, out
    place = tmp_path / "a" / "rescored" / "resolution=32_smoothing=3_image-score=top1"
    table = (place / "leaderboard.csv").read_text()
    assert '"toy_mean(rescored_image_score=top1, rescored_smoothing=3.0)"' in table
    assert "few_shot(evaluation_size=32)" in table
    assert {path: path.read_bytes() for path in before} == before


def test_without_a_choice_each_single_one_is_shown_with_what_it_changes(run, bench, tmp_path):
    run("a", "--methods", "patchcore")
    code, out, _ = bench("rescore", tmp_path / "a")
    assert code == 0, out
    assert "as measured, what was kept gives the metrics of the records to" in out
    table = pd.read_csv(tmp_path / "a" / "rescored" / "choices.csv")
    assert (table["value"] - table["measured"] - table["change"]).abs().max() < 2e-6
    assert set(table.loc[table["choice"] == "regions=native", "metric"]) == {"pixel_AUPRO"}
    assert set(table.loc[table["choice"] == "image-score=max", "metric"]) == {*IMAGE}
    claimed = table[table["published"].notna()]
    assert {"image_AUROC"} <= set(claimed["metric"])  # PatchCore's 1 shot on MVTec AD is published
    assert "comes nearest" in out or "no choice comes nearer" in out


def test_nothing_is_kept_where_that_was_asked_for_and_scores_alone_where_maps_are_too_many(run, bench, tmp_path):
    assert run("none", "predictions.keep=false")["bottle"][1] is None
    code, out, _ = bench("rescore", tmp_path / "none")
    assert (code, "no predictions were kept" in out) == (1, True)
    record, kept = run("few", "predictions.max_mib=0.01")["bottle"]
    assert kept.maps is None
    assert len(kept.scores) == 7
    code, out, _ = bench("rescore", tmp_path / "few")
    assert (code, "scores alone were kept" in out) == (1, True)
    with pytest.raises(DataError, match="no maps were kept"):
        remeasure(record.cell, kept, None, Choice())


def test_a_choice_that_a_cell_had_anyway_is_not_measured_again(run, bench, tmp_path, monkeypatch):
    found = run("a", "protocol.evaluation_size=224")
    cell = found["bottle"][0].cell
    assert beyond(Choice(resolution=224, regions="resized"), cell) == Choice()
    assert beyond(Choice(resolution=225, regions="native"), cell) == Choice(resolution=225, regions="native")
    asked = []
    real = rescore.remeasure
    monkeypatch.setattr(rescore, "SINGLE", (Choice(resolution=224), Choice(image_score="max")))
    monkeypatch.setattr(rescore, "remeasure", lambda *given: (asked.append(given[-1]), real(*given))[1])
    code, _, _ = bench("rescore", tmp_path / "a")
    assert (code, asked) == (0, [Choice()] * len(found) + [Choice(image_score="max")] * len(found))
    table = pd.read_csv(tmp_path / "a" / "rescored" / "choices.csv")
    assert table.loc[table["choice"] == "resolution=224", "change"].abs().max() < HALF
