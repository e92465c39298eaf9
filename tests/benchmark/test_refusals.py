"""Wrong input: one sentence naming the thing, what is allowed and what came; exit code 2; nothing run or lost."""

import re
import shutil

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

TOY = ("run", "--methods", "toy_mean", "--datasets", "mvtec_ad", "--categories", "bottle,metal_nut", "--seeds", "0")


def refused(finished, message):
    assert finished.code == 2, finished
    assert re.search(message, finished.err), finished.err
    assert "Traceback" not in finished.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "--methods", "toy_maen", "--datasets", "visa"],
            r"unknown method 'toy_maen'. Did you mean 'toy_mean'\?",
        ),
        (["run", "--methods", "toy_mean", "--datasets", "vissa"], r"unknown dataset 'vissa'. Did you mean 'visa'\?"),
        (
            ["run", "--methods", "toy_mean", "--datasets", "visa", "--categories", "pcb5"],
            r"category of visa 'pcb5'. Did you mean 'pcb",
        ),
        (
            ["run", "--methods", "toy_mean", "--datasets", "visa", "--shots", "one"],
            r"--shots must be whole numbers.*'one'",
        ),
        (
            ["run", "--methods", "toy_mean", "--datasets", "visa", "--shots", "0"],
            r"needs shots of 1 or more, got \[0\]",
        ),
        (
            ["run", "--methods", "toy_breaks", "--datasets", "visa", "--protocols", "zero_shot"],
            r"cannot run without shots",
        ),
        (["run", "--preset", "smok"], r"unknown preset 'smok'. Did you mean 'smoke'\?"),
        (["run"], r"no methods requested"),
        (["run", *TOY[1:], "method.scael=2"], r"'method.toy_mean.scael'. Did you mean 'method.toy_mean.scale'"),
        (["run", *TOY[1:], "method.scale=wide"], r"must be float, got 'wide'"),
        (
            ["run", *TOY[1:], "--overwrite", "sometimes"],
            r"--overwrite must be one of never, failed, always, got 'sometimes'",
        ),
        (["run", *TOY[1:], "--backbone", "embeded"], r"unknown backbone 'embeded'. Did you mean 'embedded'"),
        (["run", *TOY[1:], "--config", "absent.yaml"], r"no configuration file absent.yaml"),
        (
            ["run", "--methods", "toy_transfers", "--datasets", "visa", "protocol.auxiliary=visa"],
            r"auxiliary=visa is also a target",
        ),
        (["list", "method"], r"unknown kind 'method'. Did you mean 'methods'\?"),
        (["show", "method", "toy_maen"], r"Did you mean 'toy_mean'\?"),
        (["show", "thing", "toy_mean"], r"unknown kind 'thing'. Allowed: method, dataset, preset"),
        (["status", "nowhere"], r"nowhere is not a results folder"),
        (["leaderboard", "nowhere"], r"nowhere is not a results folder"),
        (["run", "--nonsense"], r"No such option"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else None,
)
def test_requests(bench, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(bench(*words), message)
    assert list(tmp_path.iterdir()) == []


def no_root(root):
    shutil.rmtree(root)


def empty_root(root):
    shutil.rmtree(root)
    root.mkdir()


def wrong_layout(root):
    shutil.move(root / "bottle" / "train", root / "bottle" / "training")


def truncated_image(root):
    path = root / "bottle" / "test" / "good" / "001.png"
    path.write_bytes(path.read_bytes()[:-40])


def mask_without_image(root):
    (root / "bottle" / "test" / "contamination" / "001.png").unlink()


def image_without_mask(root):
    (root / "bottle" / "ground_truth" / "contamination" / "001_mask.png").unlink()


def mask_of_another_size(root):
    Image.new("L", (7, 7)).save(root / "bottle" / "ground_truth" / "contamination" / "001_mask.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_root, r"no data for 'mvtec_ad'.*mvtec_ad"),
        (empty_root, r"mvtec_ad"),
        (wrong_layout, r"bottle.*train"),
        (truncated_image, r"bottle/test/good/001.png"),
        (mask_without_image, r"contamination/001"),
        (image_without_mask, r"contamination/001"),
        (mask_of_another_size, r"contamination/001_mask.png.*7"),
    ],
)
def test_damaged_data_is_refused_before_anything_runs(bench, data, tmp_path, damage, message):
    damage(data)
    refused(bench(*TOY, "--shots", "1", "--results", tmp_path / "r"), message)
    assert not list((tmp_path / "r").glob("cells/*"))


def test_fewer_normals_than_shots(bench, data, tmp_path):
    refused(bench(*TOY, "--shots", "1,9", "--results", tmp_path / "r"), r"9.*5|5.*9")
    assert not list((tmp_path / "r").glob("cells/*"))


def test_results_that_cannot_be_written(bench, data, tmp_path):
    (tmp_path / "file").write_text("")
    refused(bench(*TOY, "--shots", "1", "--results", tmp_path / "file" / "r"), r"cannot write .*file/r")


def test_a_second_run_in_the_same_folder_waits_its_turn(bench, data, tmp_path):
    from filelock import FileLock

    (tmp_path / "r").mkdir()
    with FileLock(tmp_path / "r" / ".lock"):
        refused(bench(*TOY, "--shots", "1", "--results", tmp_path / "r"), r"another `bench run` is writing to")


def test_a_corrupt_record_is_set_aside_reported_and_its_cell_runs_again(bench, data, tmp_path):
    words = (*TOY, "--shots", "1", "--results", tmp_path / "r", "protocol.evaluation_size=24")
    assert bench(*words).code == 0
    path = next((tmp_path / "r").glob("cells/*bottle*/attempt-1.json"))
    path.write_text(path.read_text()[:300])
    again = bench(*words)
    assert again.code == 0
    assert "a corrupt record was set aside as" in again.out
    assert "1 done, 1 missing; 1 to run" in again.out
    assert path.with_name("attempt-1.json.corrupt").exists()
    assert path.with_name("attempt-2.json").exists()


def test_a_checkpoint_that_does_not_fit_its_model(bench, data, tmp_path):
    import torch

    torch.save({"state_dict": {"visual.proj": torch.zeros(2, 2)}}, tmp_path / "weights.pt")
    words = (*TOY, "--shots", "1", "--results", tmp_path / "r", f"backbone.pretrained={tmp_path / 'weights.pt'}")
    refused(bench(*words), r"weights.pt")
    refused(bench(*TOY, "--shots", "1", "backbone.pretrained=/absent.pt", "--results", tmp_path / "r"), r"absent.pt")
    assert not list((tmp_path / "r").glob("cells/*"))


def test_a_disk_that_fills_up_stops_the_sweep_and_loses_nothing(bench, data, tmp_path, monkeypatch):
    """The second record meets a limit on file size, as a full disk would refuse it."""
    import resource
    import signal

    from benchmark.execution import ranks as sweep

    real, before = sweep.attempt, resource.getrlimit(resource.RLIMIT_FSIZE)
    calls = []

    def attempt(*arguments):
        record = real(*arguments)
        calls.append(record)
        if len(calls) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
        return record

    words = (*TOY, "--shots", "1,2", "--results", tmp_path / "r", "protocol.evaluation_size=24")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "attempt", attempt)
        try:
            stopped = bench(*words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
    assert stopped.code == 1
    assert "cannot write" in stopped.out
    assert "the same command" in stopped.out
    assert not list((tmp_path / "r").rglob(".tmp-*"))
    again = bench(*words)
    assert "1 done, 3 missing; 3 to run" in again.out
    assert again.code == 0
