"""`bench export wandb-dashboard`: the workspace of W&B, to a file and to a stand-in for the service."""

import json
import sys

import pytest
from wandb_stand_in import KEY, wandb_service

from benchmark.execution.loggers import reach

EXPORT = ("export", "wandb-dashboard")
SECTIONS = ["Image metrics", "Pixel metrics", "Loss curves", "Cost", "Worst images", "Leaderboard"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()


def sections(spec):
    return {its["name"]: its["panels"] for its in spec["section"]["panelBankConfig"]["sections"]}


def test_to_a_file_without_key_or_network(bench, tmp_path):
    done = bench(*EXPORT, "--entity", "us", "--project", "mine", "--output", tmp_path / "w.json")
    assert (done.code, done.out) == (0, f"{tmp_path / 'w.json'}\n")
    view = json.loads((tmp_path / "w.json").read_text())
    assert (view["entity"], view["project"]) == ("us", "mine")
    found = sections(view["spec"])
    assert list(found) == SECTIONS
    shown = [panel["config"]["metrics"] for panel in found["Image metrics"]]
    assert shown == [["test/image_AUROC"], ["test/image_AP"], ["test/image_F1Max"]]
    (curve,) = found["Loss curves"]
    assert (curve["config"]["xAxis"], curve["config"]["metrics"]) == ("trainer/global_step", ["train/loss"])
    assert found["Worst images"][0]["config"]["mediaKeys"] == ["test/worst"]
    assert view["spec"]["section"]["runSets"][0]["grouping"] == [
        {"section": "config", "name": "method.value.label"},
        {"section": "config", "name": "dataset.value.name"},
    ]


@pytest.mark.slow
def test_to_the_service(bench, monkeypatch):
    with wandb_service() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        done = bench(*EXPORT)
    assert done.code == 0, done.err
    (told,) = server.told("UpsertView2")
    assert done.out.strip().startswith(f"{server.url}/me/clip-ad-bench?nw=")
    assert (told["entityName"], told["projectName"], told["type"]) == ("me", "clip-ad-bench", "project-view")
    assert list(sections(json.loads(told["spec"]))) == SECTIONS


@pytest.mark.parametrize(
    ("how", "why"),
    [("no key", "no key for W&B was found: `wandb login` keeps one; --output FILE needs none."),
     ("401", "W&B refuses the key; --output FILE writes the workspace without it."),
     ("500", "W&B answers 500; --output FILE writes the workspace without it.")],
)  # fmt: skip
def test_what_cannot_be_saved_is_a_sentence(bench, monkeypatch, how, why):
    with wandb_service(how) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        if how != "no key":
            monkeypatch.setenv("WANDB_API_KEY", KEY)
        done = bench(*EXPORT)
    assert (done.code, done.err) == (2, f"error: {why}\n")


def test_a_hanging_service_is_a_sentence(bench, monkeypatch):
    monkeypatch.setattr(reach, "PATIENCE", 0.3)
    with wandb_service("hang") as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        done = bench(*EXPORT)
    assert done.code == 2
    assert done.err.startswith(f"error: W&B cannot be reached at {server.url} (")


def test_a_missing_package_is_a_sentence(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    done = bench(*EXPORT)
    assert (done.code, done.err) == (
        2,
        "error: bench export wandb-dashboard needs the package wandb-workspaces: "
        "pip install 'clip-ad-bench[wandb-dashboard]'.\n",
    )
