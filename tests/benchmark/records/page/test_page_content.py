"""The page tells what the leaderboard and the records tell, is written when they change, and else left alone."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_results import made_up, results

from benchmark.metrics.table import metric_names
from benchmark.records import predictions
from benchmark.records.leaderboard import write_tables
from benchmark.records.page import write
from benchmark.records.page.content import behind, describe
from benchmark.records.page.write import FILE, render, write_page
from benchmark.records.predictions import Predicted
from benchmark.records.store import Store, StoreError

NAMES = metric_names()


def told(store, made):
    return describe(store, made.wide, behind(made), made.published)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', page.read_text())[1])


def keep(store, record, score=0.5):
    told = Predicted(["a", "b"], ["bolt"] * 2, ["", ""], np.array([True, False]), np.array([score, 0]), None, {})
    predictions.write(predictions.path_of(store.folder, record), told)


@pytest.fixture
def two_sets(tmp_path):
    return results(
        tmp_path,
        [
            made_up("a", "mvtec_ad", (category,), seed=seed, values={"image_AUROC": value}, seconds=4.0)
            for seed, values in enumerate(((0.6, 0.8), (0.7, 0.9)))
            for category, value in zip(("bottle", "carpet"), values, strict=True)
        ]
        + [made_up("b", shots=2, values={"image_AUROC": 0.25, "pixel_AP": None})],
    )


def test_a_row_holds_its_means_its_facts_and_its_group(two_sets):
    data = told(*two_sets)
    row = next(row for row in data["rows"] if data["groups"][row["group"]]["kind"] == "all" and row["method"] == "a")
    assert row["values"][0] == pytest.approx(0.75)
    assert row["std"][0] == pytest.approx(0.1 / 2**0.5, abs=1e-5)
    assert dict(zip(data["facts"], row["facts"], strict=True)) == {"knows": "not recorded", "seeds": 2}
    assert row["status"].startswith("partial: 4 of")
    (other,) = [row for row in data["rows"] if row["method"] == "b"]
    assert data["groups"][other["group"]]["shots"] == 2
    assert other["values"][NAMES.index("pixel_AP")] is None
    assert other["marks"] == [" ▼", *[""] * (len(NAMES) - 1)]
    assert data["legend"].startswith("▼ below chance.")


def test_a_number_is_rounded_once(tmp_path):
    """0.0074960 is 0.7 percent, 0.0075 would be 0.8."""
    for spread in (0.0074960, 0.0095029):
        values = (0.5, 0.5 + spread * 2**0.5)
        records = [made_up("a", values={"image_AUROC": value}, seed=seed) for seed, value in enumerate(values)]
        (row,) = told(*results(tmp_path / str(spread), records))["rows"]
        assert row["std"][0] == pytest.approx(spread, abs=1e-7)


def test_a_row_knows_the_records_of_its_kind_and_no_others(two_sets):
    store, made = two_sets
    data = told(store, made)
    for row in data["rows"]:
        group = data["groups"][row["group"]]
        parts = {data["records"][cell][data["record"].index("part")] for cell in row["cells"]}
        wanted = {"texture": {"carpet"}, "object": {"bottle"}, "all": {"bottle", "carpet"}}
        assert parts == (wanted[group["kind"]] if group["dataset"] == "mvtec_ad" else {"bolt"})
        for cell in row["cells"]:
            record = dict(zip(data["record"], data["records"][cell], strict=True))
            file = json.loads((store.folder / "cells" / record["id"] / f"attempt-{record['attempt']}.json").read_text())
            assert record["values"][0] == file["metrics"][record["part"]]["image_AUROC"]["value"]
            assert data["machines"][record["machine"]].startswith("cpu, 1 threads, here, Python 3.11, commit 01234567")


def test_categories_are_means_over_seeds(two_sets):
    data = told(*two_sets)
    row = next(row for row in data["rows"] if row["method"] == "a")
    found = {name: values[0] for name, values, _ in data["setups"][row["setup"]]["categories"]}
    assert found == {"bottle": pytest.approx(0.65), "carpet": pytest.approx(0.85)}


def test_the_cost_is_that_of_the_tests_per_image_and_of_whole_cells(two_sets):
    row = next(row for row in told(*two_sets)["rows"] if row["method"] == "a")
    assert row["cost"] == {"image": pytest.approx(0.4), "cell": pytest.approx(2.0 + 4.0 + 0.5)}


def test_what_was_changed_and_what_failed_is_told(tmp_path):
    failed = made_up("a", seed=1, status="failed", error={"type": "E", "message": "m" * 500, "traceback": "t"})
    changed = made_up("a", settings={"scale": 2}, remarks=["said"])
    data = told(*results(tmp_path, [failed, changed]))
    by_method = {row["method"]: row for row in data["rows"]}
    assert data["setups"][by_method["a(scale=2)"]["setup"]]["changed"] == {"method": "scale=2"}
    said = [record[data["record"].index("said")] for record in data["records"]]
    assert len(max(said, key=len)) < 310
    assert "said" in said
    assert by_method["a"]["values"] == [None] * len(NAMES)
    assert by_method["a"]["cost"] == {"image": None, "cell": None}


def test_published_figures_stand_beside_measured_ones_and_are_no_value(tmp_path):
    cells = [made_up("winclip", "mvtec_ad", (category,)) for category in ("bottle", "carpet")]
    data = told(*results(tmp_path, cells))
    rows = {data["groups"][row["group"]]["kind"]: row for row in data["rows"]}
    figures = {its["metric"]: its for its in rows["all"]["published"]}
    assert figures["image_AUROC"]["published_low"] > 0.9
    assert figures["image_AUROC"]["verdict"].startswith("not comparable: partial")
    assert rows["all"]["values"][0] == 0.5
    assert rows["texture"]["published"] == []


def test_a_trimmed_record_stays_small(two_sets):
    assert max(len(json.dumps(record)) for record in told(*two_sets)["records"]) < 1000


def test_data_cannot_end_its_script():
    page = render({"title": "</title><script>", "rows": ["</script><script>hacked()</script>", "<!--", "{{script}}"]})
    (text,) = re.findall(r'id="data">(.*)</script>\n<script>', page)
    assert "<" not in text
    assert json.loads(text)["rows"] == ["</script><script>hacked()</script>", "<!--", "{{script}}"]
    assert "<title>&lt;/title&gt;&lt;script&gt;" in page


def test_the_page_names_no_other_address(two_sets):
    page = write_page(*two_sets).read_text()
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"url\(|@import|import\(|fetch\(|<link|<iframe|innerHTML|outerHTML|insertAdjacent", page)


def test_a_page_of_the_same_records_is_left_alone(two_sets, monkeypatch):
    store, made = two_sets
    page = write_page(store, made)
    monkeypatch.setattr(write, "describe", lambda *_: pytest.fail("it was made again"))
    write_page(Store(store.folder), write_tables(store.folder, Store(store.folder).all_current()))
    assert data_of(page)["title"] == store.folder.name


@pytest.mark.parametrize("change", ["record", "attempt", "predictions", "anew", "gone"])
def test_a_page_is_made_again_when_what_it_tells_has_changed(two_sets, change):
    store, made = two_sets
    record = next(record for record in store.all_current() if record.cell.method == "b")
    page = write_page(store, made)
    page.write_text(page.read_text().replace('"b"', '"old"'))
    if change == "record":
        store.save(made_up("c"))
    elif change == "attempt":
        store.save(replace(store.whole(record), attempt=2, started="2026-01-02"))
    elif change == "predictions":
        keep(store, record)
    elif change == "gone":
        page.unlink()
    write_page(store, write_tables(store.folder, store.all_current()), anew=change == "anew")
    assert '"old"' not in page.read_text()


def test_predictions_that_changed_make_a_page_again(two_sets):
    store, made = two_sets
    (record,) = [record for record in store.all_current() if record.cell.method == "b"]
    keep(store, record)
    page = write_page(store, made)
    before = page.read_text()
    keep(store, record, score=0.9)
    write_page(store, made)
    assert page.read_text()[:4096] != before[:4096]


def test_a_folder_without_results_has_a_page(tmp_path):
    store, made = results(tmp_path, [])
    data = data_of(write_page(store, made))
    assert data["rows"] == []
    assert data["gallery"]["groups"] == []


def test_an_old_record_that_is_gone_costs_its_provenance_alone(two_sets):
    store, made = two_sets
    for record in store.all_current():
        store.path(record).unlink()
    data = told(store, made)
    assert {data["machines"][record[data["record"].index("machine")]] for record in data["records"]} == {"not recorded"}


def test_a_page_that_cannot_be_written_keeps_the_old_one(two_sets, monkeypatch):
    store, made = two_sets
    page = write_page(store, made)
    before = page.read_bytes()
    store.save(made_up("c"))

    def full(self, *_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match="No space left"):
            write_page(store, made, anew=True)
    assert page.read_bytes() == before


def test_bench_leaderboard_writes_the_page_and_says_where(two_sets, bench):
    store, _ = two_sets
    done = bench("leaderboard", store.folder)
    assert done.code == 0
    assert str(store.folder / FILE) in done.out.replace("\n", "")
    assert len(data_of(store.folder / FILE)["records"]) == 5


@pytest.mark.slow
def test_a_run_writes_the_page_and_a_page_that_fails_loses_no_run(tmp_path, data, bench, monkeypatch, cells):
    words = ("run", "--methods", "trivial_colour_knn", *cells, "--shots", "1", "--results", tmp_path / "r")
    assert bench(*words).code == 0
    rows = data_of(tmp_path / "r" / FILE)["rows"]
    assert {row["method"] for row in rows} == {"trivial_colour_knn"}
    (tmp_path / "r" / FILE).unlink()
    (tmp_path / "r" / FILE).mkdir()
    again = bench(*words)
    assert again.code == 0
    assert f"note: cannot write {tmp_path / 'r' / FILE}" in again.out.replace("\n", " ")


SCRIPT = """
import sys
from pathlib import Path
from benchmark.records.leaderboard import write_tables
from benchmark.records.page.write import write_page
from benchmark.records.store import Store
store = Store(Path(sys.argv[1]))
write_page(store, write_tables(store.folder, store.all_current()))
print("torch" in sys.modules)
"""


@pytest.mark.slow
def test_a_page_needs_no_torch_unless_it_gets_new_pictures(two_sets):
    store, made = two_sets

    def loads_torch():
        command = [sys.executable, "-c", SCRIPT, str(store.folder)]
        done = subprocess.run(command, cwd=Path(__file__).parents[4], capture_output=True, text=True, check=True)
        return done.stdout.strip() == "True"

    assert not loads_torch()
    record = next(record for record in store.all_current() if record.cell.dataset == "mvtec_ad")
    keep(store, record)
    write_page(store, made)
    assert not loads_torch()
