"""The tables of an older results folder: metrics unknown to it are "not measured", metrics gone since are kept."""

import json

import pandas as pd
import pytest

from benchmark.metrics import table
from benchmark.metrics.table import IMAGES, Metric
from benchmark.records.leaderboard import long_table
from benchmark.records.store import Store, checksum

pytestmark = pytest.mark.slow

GONE = {"value": 0.25, "reason": ""}


def rewrite(folder, change, pattern="*"):
    """Alter the metrics of each matching record on disk, by category, as an older suite would have written them."""
    paths = sorted(folder.glob(f"cells/{pattern}/attempt-*.json"))
    assert paths
    for path in paths:
        fields = json.loads(path.read_text())
        del fields["checksum"]
        for metrics in fields["metrics"].values():
            change(metrics)
        path.write_text(json.dumps(fields | {"checksum": checksum(fields)}))


@pytest.fixture
def folder(bench, data, tmp_path):
    """Two categories and two seeds, measured by today's suite."""
    words = ("run", "--methods", "toy_mean", "--datasets", "folder", "--shots", "1", "--seeds", "0,1")
    assert bench(*words, f"dataset.root={data}", "--results", tmp_path / "r").code == 0
    return tmp_path / "r"


@pytest.fixture
def newer(folder, monkeypatch):
    """A suite with one metric more than that which measured the folder."""
    line = Metric("image_New", "image", lambda ranking: 1 / ranking.normals, IMAGES)
    monkeypatch.setattr(table, "TABLE", (line, *table.TABLE))


def rebuild(bench, folder):
    done = bench("leaderboard", folder)
    assert done.code == 0, done
    assert Store(folder).set_aside == []
    return pd.read_csv(folder / "leaderboard.csv"), pd.read_csv(folder / "results.csv")


@pytest.mark.usefixtures("newer")
def test_metrics_that_records_lack_are_empty_with_the_reason_and_the_others_stay(bench, folder):
    before = pd.read_csv(folder / "leaderboard.csv")
    rewrite(folder, lambda metrics: metrics.pop("pixel_AUPRO"))
    wide, long = rebuild(bench, folder)
    lacking = long[long["metric"].isin(["image_New", "pixel_AUPRO"])]
    assert len(lacking) == 8
    assert set(lacking["status"]) == {"not measured"}
    assert set(long.drop(lacking.index)["status"]) == {"ok"}
    assert lacking["value"].isna().all()
    for name in ("image_New", "pixel_AUPRO"):
        assert wide[[name, f"{name}_std"]].isna().all(axis=None)
        assert wide[f"{name}_n"].item() == 0
    assert wide["status"].item() == "not measured: image_New, pixel_AUPRO"
    assert wide["pixel_AP"].item() == before["pixel_AP"].item()
    head, _, row = (line for line in (folder / "leaderboard.md").read_text().splitlines() if line.startswith("|"))
    rendered = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert not {"image_New", "image New", "pixel AUPRO"} & {*rendered}
    assert rendered["pixel AP"] != "–"
    assert "regions of the resized mask" not in (folder / "leaderboard.md").read_text()


def test_a_metric_that_is_gone_stays_in_the_files_and_leaves_the_rendered_table(bench, folder, monkeypatch):
    before, _ = rebuild(bench, folder)
    monkeypatch.setattr(table, "TABLE", tuple(line for line in table.TABLE if line.name != "pixel_AUPRO"))
    rewrite(folder, lambda metrics: metrics.update(image_Gone=GONE))
    wide, long = rebuild(bench, folder)
    assert wide["image_Gone"].item() == 0.25
    assert wide["pixel_AUPRO"].item() == before["pixel_AUPRO"].item()
    assert wide["status"].item() == "ok"
    assert (long["metric"] == "image_Gone").sum() == 4
    head = (folder / "leaderboard.md").read_text().splitlines()[2:5]
    assert not any(name in line for line in head for name in ("image_Gone", "pixel_AUPRO"))


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("*bottle-*", "not measured in 1 of 2: image_AP"), ("*-s1-*", "not measured: image_AP")],
)
def test_no_mean_is_taken_of_what_some_runs_have_not_measured(bench, folder, pattern, words):
    """Else the seeds of a mean would have measured different categories, or a category fewer seeds than it says."""
    rewrite(folder, lambda metrics: metrics.pop("image_AP"), pattern)
    wide, long = rebuild(bench, folder)
    assert wide["status"].item() == words
    assert pd.isna(wide["image_AP"].item())
    assert wide["image_AP_n"].item() == 0
    assert (long.loc[long["metric"] == "image_AP", "status"] == "not measured").sum() == 2
    by_category = pd.read_csv(folder / "leaderboard_by_category.csv").set_index("category")
    emptied = {"bottle"} if "bottle" in pattern else {"bottle", "metal_nut"}
    assert set(by_category.index[by_category["image_AP"].isna()]) == emptied
    assert by_category["image_AUROC"].notna().all()


def test_a_record_without_any_metric_is_a_row_without_numbers(bench, folder):
    rewrite(folder, dict.clear)
    wide, _ = rebuild(bench, folder)
    assert wide["status"].item() == f"not measured: {', '.join(table.metric_names())}; nothing is defined"


def test_undefined_is_not_called_not_measured(folder):
    rewrite(folder, lambda metrics: metrics.update(image_AP={"value": None, "reason": "no normal image"}))
    long = long_table(Store(folder).all_current())
    assert set(long.loc[long["metric"] == "image_AP", "status"]) == {"undefined: no normal image"}
    assert "not measured" not in set(long["status"])
