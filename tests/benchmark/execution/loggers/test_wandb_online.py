"""W&B with a key, against a stand-in for its service that answers, refuses, fails or hangs."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import wandb
from wandb_files import WANDB, runs

from benchmark.execution import attempt
from benchmark.execution.loggers import leaderboard, reach, wandb_run
from benchmark.execution.loggers.leaderboard import log_leaderboard
from benchmark.request.groups import LoggerSettings

ONE = ("--methods", "toy_learns", "--shots", "1", "--seeds", "0", "--datasets", "mvtec_ad", "--categories", "bottle")
RUN = ("run", *ONE, "protocol.evaluation_size=24", "logger=wandb", "logger.project=mine")


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("cells/*/attempt-*.json")]


def upserted(server) -> dict[str, dict]:
    """What was told of each run, by its id: the last of each value."""
    found: dict[str, dict] = {}
    for told in server.told("UpsertBucket"):
        its = found.setdefault(told["name"], {})
        its |= {key: value for key, value in told.items() if value is not None}
    return found


def check_uploaded(server, folder: Path) -> None:
    """The service has the run of the cell and that of the leaderboard, whole."""
    told = {its["jobType"]: its for its in upserted(server).values()}
    assert told.keys() == {"cell", "leaderboard"}
    (record,) = records(folder)
    assert {its["groupName"] for its in told.values()} == {record["sweep"]}
    assert {its["project"] for its in told.values()} == {"mine"}
    assert json.loads(told["cell"]["config"])["method"]["value"]["name"] == "toy_learns"
    lines = server.history()
    assert [each["trainer/global_step"] for each in lines if "train/loss" in each] == [0, 1, 2]
    measured = record["metrics"]["bottle"]["pixel_AUROC"]["value"]
    assert measured in [each.get("test/pixel_AUROC") for each in lines]
    stored = {Path(path).name for path in server.stored}
    assert {"leaderboard.md", "leaderboard.csv", "leaderboard.table.json"} <= stored
    assert any(name.startswith("worst_") for name in stored)
    assert any(path.endswith("images.table.json") for path in server.stored)


@pytest.mark.slow
def test_online_the_service_gets_the_cell_and_the_leaderboard(bench, data, tmp_path, service, kept):
    server = service()
    done = bench(*RUN, "--results", tmp_path / "r")
    assert done.code == 0
    assert "W&B" not in done.out
    check_uploaded(server, tmp_path / "r")
    assert (tmp_path / "r" / "leaderboard.html").read_bytes() in server.stored.values()
    codes = [body.get("exitcode") for body in server.streamed if body.get("complete")]
    assert codes == [0, 0]


@pytest.mark.slow
def test_the_command_of_the_note_uploads_everything(bench, data, tmp_path, service, kept):
    done = bench(*RUN, "--results", tmp_path / "a b")
    (line,) = [line for line in done.out.splitlines() if "wandb sync" in line]
    server = service()
    command = line.split("`")[1].replace("wandb", shlex.quote(str(WANDB)), 1)
    subprocess.run(command, shell=True, check=True, capture_output=True, cwd=tmp_path)
    check_uploaded(server, tmp_path / "a b")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("401", "refuses the key"),
        pytest.param("500", "answers 500", marks=pytest.mark.campaign),
        pytest.param("hang", "cannot be", marks=pytest.mark.campaign),
    ],
)
def test_a_service_that_cannot_be_used_is_asked_once_and_left_alone(bench, data, tmp_path, service, unkept, how, why):
    server = service(how)
    done = bench(*RUN, "--results", tmp_path / "r")
    assert done.code == 0
    (line,) = [line for line in done.out.splitlines() if "W&B" in line]
    assert why in line
    assert line.endswith(f"`wandb sync {tmp_path / 'r'}/wandb/offline-run-*` uploads them later.")
    assert len(server.requests) == 1
    server.recover()
    found = runs(tmp_path / "r")
    assert {kind: len(its) for kind, its in found.items()} == {"cell": 1, "leaderboard": 1}
    (record,), (summary,) = records(tmp_path / "r"), [its["summary"] for its in found["cell"]]
    assert summary["test/pixel_AUROC"] == record["metrics"]["bottle"]["pixel_AUROC"]["value"]
    assert not {"test/images", "test/worst"} & summary.keys()  # no predictions were kept


@pytest.mark.campaign
@pytest.mark.slow
def test_a_service_that_hangs_once_the_key_is_known(bench, data, tmp_path, service, monkeypatch):
    server = service("hang later")
    monkeypatch.setattr(leaderboard, "LIMIT", 4.0)
    done = bench(*RUN, "--results", tmp_path / "r")
    assert done.code == 0
    server.recover()
    (record,), (run,) = records(tmp_path / "r"), runs(tmp_path / "r")["cell"]
    assert record["remarks"] == []
    assert run["summary"]["test/image_AUROC"] == record["metrics"]["bottle"]["image_AUROC"]["value"]
    (path,) = (tmp_path / "r" / "wandb").glob("offline-run-*-leaderboard-*")
    sentence = f"note: W&B did not take the leaderboard in 4 s: `wandb sync {path}` uploads it later."
    assert sentence in done.out.splitlines()
    assert not [its for its in Path("/proc").glob("[0-9]*/cmdline") if str(path) in its.read_bytes().decode()]


@pytest.mark.campaign
@pytest.mark.slow
def test_a_service_that_goes_in_the_middle_of_a_cell(bench, data, tmp_path, service, monkeypatch):
    server, real = service(), attempt.finish
    monkeypatch.setattr(wandb_run, "UPLOAD", 1.0)

    def hang_then_finish(loggers, record, predicted):
        server.how = "hang"
        real(loggers, record, None)  # a table would wait for the service, for 20 s

    monkeypatch.setattr(attempt, "finish", hang_then_finish)
    done = bench(*RUN, "--results", tmp_path / "r")
    assert done.code == 0
    (record,) = records(tmp_path / "r")
    (remark,) = record["remarks"]
    assert "W&B did not take all in 1 s; `wandb sync --no-skip-online " in remark
    assert f"note: {remark}" in done.out
    server.recover()
    subprocess.run([WANDB, *remark.split("`")[1].split()[1:]], check=True, capture_output=True, cwd=tmp_path)
    measured = record["metrics"]["bottle"]["pixel_AUROC"]["value"]
    assert measured in [each.get("test/pixel_AUROC") for each in server.history()]


def test_what_the_leaderboard_cannot_write_is_a_sentence(tmp_path):
    why = log_leaderboard(LoggerSettings(name="wandb", project="p", mode="offline"), tmp_path, "sweep")
    assert why.startswith("W&B has no leaderboard of this sweep (FileNotFoundError: ")
    assert wandb.run is None  # the next one is another one


@pytest.mark.parametrize(
    ("how", "words"),
    [("401", "refuses the key"), ("500", "answers 500"), ("no viewer", "refuses the key"), ("fine", ""),
     ("hang", "cannot be reached"), ("refused", "cannot be reached")],
)  # fmt: skip
def test_why_a_service_cannot_be_used(service, monkeypatch, how, words):
    server = service(how)
    monkeypatch.setattr(reach, "PATIENCE", 0.5)
    address = "http://127.0.0.1:9" if how == "refused" else server.url
    monkeypatch.setattr(reach, "base_url", lambda: address)
    assert (words in reach.ask(), bool(reach.ask())) == (True, bool(words))


def test_nothing_is_asked_where_nothing_is_online(service):
    server = service()
    for mode in ("offline", "disabled"):
        settings = LoggerSettings(name="wandb", mode=mode)
        assert reach.decide(settings, Path("r"))[0] == reach.still_online(settings) == settings
    assert server.requests == []
