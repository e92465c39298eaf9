"""Rows that were false once: each was made by an ordinary command and stood in a table as `ok`."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from steps import shorten_fits
from twins import VISA_ALL, image, save, write_mvtec_category, write_visa

from benchmark.execution import attempt as attempting
from benchmark.execution import content
from datamodules.components.published_shots import LIST_FILE
from methods.components.clip.published_weights import DEMO_FILE

TOY = ("run", "--methods", "toy_mean", "--shots", "1", "--seeds", "0")
ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
pytestmark = pytest.mark.slow


def records(folder):
    made = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/attempt-*.json"))]
    return sorted(made, key=lambda record: record["started"])


def table(folder, kind="all"):
    wide = pd.read_csv(folder / "leaderboard.csv", keep_default_na=False, na_values=[""])
    return wide[wide["kind"] == kind]


@pytest.fixture
def part(tmp_path):
    """A data set of the user's own with two categories, complete in a table."""
    for number, name in enumerate(("nut", "pin")):
        write_mvtec_category(tmp_path / "part" / name, seed=100 * number)
    return tmp_path / "part"


@pytest.fixture
def run(bench, part, tmp_path):
    """Run words on it in one results folder; returns the output."""

    def call(*words, code=0, methods="toy_mean", shots="1", seeds="0"):
        axes = ("--methods", methods, "--shots", shots, "--seeds", seeds)
        own = ("--datasets", "folder", f"dataset.folder.root={part}", "--results", tmp_path / "r")
        size = () if any("evaluation_size" in str(word) for word in words) else ("protocol.evaluation_size=24",)
        done = bench("run", *axes, *own, *size, *words)
        assert done.code == code, done
        return done.out + done.err

    return call


@pytest.mark.parametrize(
    ("first", "second", "compared"),
    [
        ("protocol.evaluation_size=24", "protocol.evaluation_size=12", 2),
        ("protocol.regions=resized", "protocol.regions=native", 2),
        ("protocol.published_metric=false", "protocol.published_metric=true", 1),
        ("protocol.precision=fp32", "protocol.precision=tf32", 1),
        ("backbone.position_resize=bilinear", "backbone.position_resize=open_clip", 1),
        ("method.scale=1", "method.scale=2", 1),
    ],
)
def test_two_settings_in_one_folder_are_two_rows(run, tmp_path, first, second, compared):
    run(first)
    run(second)
    rows = table(tmp_path / "r")
    assert (list(rows["status"]), list(rows["n_seeds"])) == (["ok", "ok"], [1, 1])
    assert rows["comparison"].nunique() == compared
    words = rows[["method", "protocol", "backbone"]].agg(" ".join, axis=1)
    assert words.nunique() == 2  # a reader sees in what they differ


def test_methods_of_one_protocol_compare_whatever_they_were_fitted_on(bench, part, data, tmp_path):
    visa = write_visa(data.parent / "visa", VISA_ALL)
    words = ("run", "--methods", "toy_mean,toy_transfers", "--protocols", "zero_shot", "--seeds", "0,1")
    own = ("--datasets", "folder", f"dataset.folder.root={part}", f"dataset.visa.root={visa}")
    assert bench(*words, *own, "protocol.auxiliary=visa", "--results", tmp_path / "r").code == 0
    rows = table(tmp_path / "r")
    assert sorted(rows["n_seeds"]) == [1, 2]
    assert rows["comparison"].nunique() == 1
    assert set(rows["status"]) == {"ok"}


def test_a_limited_trial_gives_way_to_its_full_run(run, tmp_path, bench):
    run("--limit", "2")
    assert list(table(tmp_path / "r")["status"]) == ["limited"]
    run()
    (row,) = table(tmp_path / "r").to_dict("records")
    (full,) = {record["comparison_id"] for record in records(tmp_path / "r")[2:3]}
    assert (row["status"], row["n_seeds"], len(full)) == ("ok", 1, 10)
    alone = tmp_path / "alone"
    bench("run", *TOY[1:], "--datasets", "folder", f"dataset.root={tmp_path / 'part'}", "--results", alone,
          "protocol.evaluation_size=24")  # fmt: skip
    assert table(alone)["pixel_AUPRO"].tolist() == [row["pixel_AUPRO"]]
    shown = bench("leaderboard", tmp_path / "r", "--all")
    assert "superseded" in shown.out


def plugin_copy(tmp_path):
    """The third party's package where the test may edit it."""
    shutil.copytree(PLUGIN, tmp_path / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "plugin"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def edited(bench_process, part, tmp_path):
    """Run with a plug-in that the test may edit, in a process of its own."""
    plugin = plugin_copy(tmp_path)
    paths = os.pathsep.join([str(plugin), str(ROOT)])

    def call(method, *words):
        command = ("run", "--methods", method, "--shots", "1", "--seeds", "0", "--datasets", "folder")
        own = (f"dataset.folder.root={part}", "--results", tmp_path / "r", "protocol.evaluation_size=24")
        return bench_process(*command, *own, *words, PYTHONPATH=paths).communicate(timeout=240)[0]

    return plugin / "toy_methods", call


@pytest.mark.campaign
def test_an_edited_method_makes_its_rows_stale_and_is_never_averaged_with_the_old_one(edited, tmp_path):
    package, run = edited
    run("toy_mean")
    edit(package / "toy_mean.py", "distance.amax(dim=(1, 2))", "distance.mean(dim=(1, 2)) * -1")
    out = run("toy_mean", "--categories", "nut")
    assert "1 stale; 1 to run" in out
    assert "stale (code: toy_methods/toy_mean.py)" in out
    (row,) = table(tmp_path / "r").to_dict("records")
    assert row["image_AUROC"] < 0.5
    assert row["below_chance"] == "image_AUROC"
    assert len({record["content"]["code"]["toy_methods/toy_mean.py"] for record in records(tmp_path / "r")}) == 2
    out = run("toy_mean", "--dry-run")
    assert out.count("done ") == 1
    assert out.count("stale ") == 1
    edit(package / "toy_mean.py", '"""Distance to', '"""The distance to')  # prose changes no number
    assert "1 done, 1 stale" in run("toy_mean", "--dry-run")


@pytest.mark.campaign
def test_an_edited_component_of_a_fit_is_fitted_again(edited, part, tmp_path):
    package, run = edited
    write_visa(tmp_path / "data" / "visa", VISA_ALL)
    (package / "weighting.py").write_text("def weight(loss):\n    return loss\n")
    edit(package / "toy_transfers.py", "from torch import Tensor, nn\n", "from torch import Tensor, nn\n\nfrom toy_methods import weighting\n")  # fmt: skip  # noqa: E501
    edit(package / "toy_transfers.py", "return ((batch", "return weighting.weight((batch")
    words = ("protocol.auxiliary=visa", f"dataset.visa.root={tmp_path / 'data' / 'visa'}")
    run("toy_transfers", *words)
    (package / "weighting.py").write_text("def weight(loss):\n    return -loss\n")
    out = run("toy_transfers", *words, "--overwrite", "always")
    assert "stale (code: toy_methods/weighting.py)" in out
    fits = [record["data"]["auxiliary"] for record in records(tmp_path / "r")]
    assert len({fit["fit"] for fit in fits}) == 2
    assert [fit["reused"] for fit in fits] == [False, True, False, True]


def test_an_edited_component_of_a_method_of_the_suite_makes_it_stale(bench_process, part, tmp_path):
    for floor in ("benchmark", "methods", "datamodules", "configs"):
        shutil.copytree(ROOT / floor, tmp_path / "suite" / floor, ignore=shutil.ignore_patterns("__pycache__"))
    words = ("run", "--methods", "nearest_patch", "--shots", "1", "--seeds", "0", "--datasets", "folder")
    own = (f"dataset.root={part}", "--results", tmp_path / "r", "protocol.evaluation_size=24", "--categories", "nut")

    def run(*more):
        return bench_process(*words, *own, *more, PYTHONPATH=str(tmp_path / "suite")).communicate(timeout=240)[0]

    assert "1 missing; 1 to run" in run()
    memory = tmp_path / "suite" / "methods" / "components" / "memory.py"
    edit(memory, "def nearest_distance(", "def nearest_distance_(")
    memory.write_text(
        memory.read_text() + "\n\ndef nearest_distance(*arguments):\n    return -nearest_distance_(*arguments)\n"
    )
    assert "stale (code: methods/components/memory.py) nearest_patch-folder" in " ".join(run("--dry-run").split())
    assert "1 stale; 1 to run" in run()
    values = [record["metrics"]["nut"]["pixel_AUROC"]["value"] for record in records(tmp_path / "r")]
    assert values[1] == pytest.approx(1 - values[0])


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the embedded CLIP, and a function that replaces it by another one."""
    path = tmp_path / "mine.safetensors"
    shutil.copy(DEMO_FILE, path)

    def replace():
        weights = load_file(DEMO_FILE)
        weights["visual.proj"] = weights["visual.proj"].flip(0)
        save_file(weights, path)

    return path, replace


def test_a_checkpoint_replaced_at_its_path_is_another_backbone(run, tmp_path, checkpoint):
    path, replace = checkpoint
    word = f"backbone.pretrained={path}"
    run(word, methods="nearest_patch")
    replace()
    assert "2 done, 2 missing" not in run(word, methods="nearest_patch", seeds="0,1")
    made = records(tmp_path / "r")
    assert len(made) == 6
    rows = table(tmp_path / "r")
    assert sorted(rows["n_seeds"]) == [1, 2]
    assert rows["backbone"].nunique() == 2
    assert rows["weights"].nunique() == 2
    assert all(name.startswith("embedded-demo mine-") for name in rows["backbone"])


def test_a_checkpoint_is_never_called_by_a_published_name():
    from benchmark.request.plan import make_plan
    from benchmark.request.settings import Layer, compose, parse_words

    words = parse_words(["backbone=vit_l_14_336", f"backbone.pretrained={DEMO_FILE}"])
    sweep_ = {"methods": ["toy_mean"], "datasets": ["mvtec_ad"], "categories": ["bottle"], "shots": [1], "seeds": [0]}
    cell = make_plan(compose([Layer("test", {"sweep": sweep_}), words]), {}).cells[0]
    assert cell.backbone_label.startswith("ViT-L-14-336/embedded-")
    assert "openai" not in cell.backbone_label


def test_joint_runs_of_one_category_each_are_no_joint_run(run, part, tmp_path):
    for category in ("nut", "pin"):
        run("--protocols", "multi_class", "--categories", category)
    rows = table(tmp_path / "r")
    assert len(rows) == 2
    assert rows["comparison"].nunique() == 2
    run("--protocols", "multi_class")
    rows = table(tmp_path / "r")
    assert sorted(rows["categories"]) == [1, 1, 2]
    assert rows["comparison"].nunique() == 3


def test_test_images_that_were_fitted_on_are_a_leak_in_the_table(bench, data, tmp_path):
    visa = write_visa(data.parent / "visa", VISA_ALL)
    for label, source in (("good", "Normal"), ("bad", "Anomaly")):
        for number in (35, 42) if label == "good" else (0, 1):
            name = f"{number:04}.JPG" if label == "good" else f"{number:03}.JPG"
            target = tmp_path / "mine" / "nut" / "test" / label / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(visa / "candle" / "Data" / "Images" / source / name, target)
    save(image(5), tmp_path / "mine" / "nut" / "train" / "good" / "0.png")
    words = ("run", "--methods", "toy_transfers", "--datasets", "folder", f"dataset.folder.root={tmp_path / 'mine'}")
    done = bench(*words, "--seeds", "0", "protocol.auxiliary=visa", "--results", tmp_path / "r")
    assert "leak   toy_transfers folder/nut zero_shot" in done.out
    assert "4 of 4 test images are in the auxiliary set" in done.out
    assert table(tmp_path / "r")["status"].tolist() == ["leak: 4 of 4 test images were seen before the test"]


def test_a_test_image_that_equals_a_shot_is_a_leak_unless_the_data_set_declares_it(run, part, tmp_path, monkeypatch):
    for path in (part / "nut" / "train" / "good").iterdir():
        shutil.copy(path, part / "nut" / "test" / "good" / f"again_{path.name}")
    run(shots="5")
    assert table(tmp_path / "r")["status"].tolist() == ["leak: 5 of 19 test images were seen before the test"]
    from datamodules.folder import Folder

    monkeypatch.setattr(Folder, "known_duplicates", tuple(f"nut/test/good/again_{n:03}.png" for n in range(5)))
    run("--overwrite", "always", shots="5")
    assert table(tmp_path / "r")["status"].tolist() == ["ok"]


def test_black_images_of_equal_length_make_a_cell_stale(run, part, tmp_path):
    tests = sorted((part / "nut" / "test" / "a").iterdir())
    for path in tests:
        Image.open(path).save(path, compress_level=0)
    run()
    for path in tests:
        before = path.stat()
        Image.new("RGB", Image.open(path).size).save(path, compress_level=0)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
    out = run()
    assert "1 done, 1 stale; 1 to run" in out
    assert "note: 1 stale (data: nut)" in out


def test_a_deleted_auxiliary_image_makes_a_cell_stale(bench, part, data, tmp_path):
    visa = write_visa(data.parent / "visa", VISA_ALL)
    words = ("run", "--methods", "toy_transfers", "--datasets", "folder", f"dataset.folder.root={part}")
    words = (*words, "--seeds", "0", "protocol.auxiliary=visa", "--results", tmp_path / "r")
    assert bench(*words).code == 0
    split = visa / "split_csv" / "1cls.csv"
    split.write_text("\n".join(split.read_text().splitlines()[:-1]) + "\n")
    (visa / "pipe_fryum" / "Data" / "Images" / "Anomaly" / "003.JPG").unlink()
    out = bench(*words).out
    assert "2 stale; 2 to run" in out
    assert "stale (auxiliary: pipe_fryum)" in out
    assert len({record["data"]["auxiliary"]["fit"] for record in records(tmp_path / "r")}) == 2
    visa.rename(tmp_path / "gone")
    assert "note: visa is absent, so recorded cells were not compared with its files" in bench(*words).out


def states_of(path, words):
    path.write_text(json.dumps({"nut": words, "pin": words}))


def test_a_file_rewritten_at_its_path_is_another_cell_and_supersedes_the_old_row(run, tmp_path, monkeypatch):
    file = tmp_path / "states.json"
    words = (f"method.promptad.states_file={file}", "method.promptad.states=specific")
    shorten_fits(monkeypatch)
    states_of(file, ["with a scratch"])
    run(*words, methods="promptad")
    assert "2 done; 0 to run" in run(*words, methods="promptad")
    moved = tmp_path / "elsewhere.json"
    shutil.copy(file, moved)
    assert "2 done; 0 to run" in run(f"method.promptad.states_file={moved}", *words[1:], methods="promptad")
    states_of(file, ["with many deep holes", "with rust"])
    assert "2 missing; 2 to run" in run(*words, methods="promptad")
    assert len(table(tmp_path / "r")) == 1
    assert len(records(tmp_path / "r")) == 4


def test_a_list_of_shots_rewritten_at_its_path_is_another_cell(bench, data, cells, tmp_path):
    for category in ("bottle", "metal_nut"):
        (tmp_path / "lists" / category).mkdir(parents=True)
        (tmp_path / "lists" / category / LIST_FILE).write_text("#1: 000\n")
    words = (*TOY, *cells, f"dataset.mvtec_ad.shot_list={tmp_path / 'lists'}", "--results", tmp_path / "r")
    assert bench(*words).code == 0
    (tmp_path / "lists" / "bottle" / LIST_FILE).write_text("#1: 001\n")
    assert "2 missing; 2 to run" in bench(*words).out
    rows = table(tmp_path / "r")
    assert list(rows["n_seeds"]) == [1]
    assert len(records(tmp_path / "r")) == 4


def test_changed_captions_of_the_suite_make_cells_stale(run, tmp_path, monkeypatch):
    shorten_fits(monkeypatch)
    words = ("method.states=generic",)
    run(*words, methods="finegrainedad", shots="1")
    shutil.copytree(content.CONFIGS / "captions", tmp_path / "configs" / "captions")
    edit(tmp_path / "configs" / "captions" / "vocabulary.yaml", "colour", "colour ")
    monkeypatch.setattr(content, "CONFIGS", tmp_path / "configs")
    assert "stale (captions)" in run(*words, "--dry-run", methods="finegrainedad")


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("label", "AttributeError: 'UnlabelledBatch' object has no attribute 'label'"),
        ("stop_predict", "RuntimeError"),
        ("stop_hook", "each of the 7 test images must be measured once; missing: "),
        ("stop_loss", "RuntimeError"),
        ("skip_epoch", "must see 4 batches (2 epochs of 2), it ended after"),
        ("alter", "BackboneAlteredError: the method changed the shared CLIP"),
    ],
)
def test_a_method_that_peeks_stops_or_alters_fails(run, tmp_path, how, problem):
    words = ("trainer.batch_size=2", f"method.how={how}", "--categories", "nut")
    out = run(*words, methods="toy_cheats", shots="2", code=1)
    assert f"failed toy_cheats(how={how})" in out
    assert problem in out.replace("\n", " ")
    assert table(tmp_path / "r")["status"].str.contains("1 failed").all()


def test_a_cell_after_one_that_altered_the_clip_is_as_if_alone(run, bench, tmp_path, part):
    store = ("features.enabled=true", f"features.folder={tmp_path / 'features'}")
    run("--categories", "nut", "method.how=alter", *store, methods="toy_cheats", code=1)
    run("--categories", "nut", *store, methods="nearest_patch")
    alone = ("run", "--methods", "nearest_patch", "--shots", "1", "--seeds", "0", "--datasets", "folder")
    own = (f"dataset.folder.root={part}", "--categories", "nut", "protocol.evaluation_size=24")
    assert bench(*alone, *own, "--results", tmp_path / "alone").code == 0
    after = [record for record in records(tmp_path / "r") if record["status"] == "ok"]
    assert [record["metrics"] for record in after] == [record["metrics"] for record in records(tmp_path / "alone")]


def test_other_pixels_of_equal_files_make_a_cell_stale_and_are_another_comparison(run, tmp_path, monkeypatch):
    run()
    for module in ("benchmark.execution.content", "benchmark.execution.run_cell", "benchmark.execution.fitting"):
        monkeypatch.setattr(f"{module}.pixel_probe", lambda: "another Pillow")
    assert "stale (pixels)" in run()
    assert len({record["comparison_id"] for record in records(tmp_path / "r")}) == 4
    assert len(table(tmp_path / "r")) == 1


def test_a_record_says_in_what_float32_was_computed(run, tmp_path):
    run("--categories", "nut")
    run("--categories", "nut", "protocol.precision=tf32")
    run("--categories", "nut", "protocol.precision=bf16")
    said = [set(record["backbone"]["arithmetic"].values()) for record in records(tmp_path / "r")]
    assert said == [{"ieee"}, {"tf32"}, {"ieee"}]


def test_files_that_change_while_a_cell_runs_make_it_fail(run, part, tmp_path, monkeypatch):
    real = attempting.run_cell

    def meanwhile(*arguments):
        measured = real(*arguments)
        save(image(77), part / "nut" / "test" / "good" / "000.png")
        return measured

    monkeypatch.setattr(attempting, "run_cell", meanwhile)
    out = run("--categories", "nut", code=1)
    assert "files changed while the cell ran (data: nut)" in out
