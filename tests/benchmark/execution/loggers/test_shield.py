"""A logger that fails costs no cell anything."""

import json

import pytest

from benchmark.execution.loggers import boards, choice
from benchmark.execution.loggers.shield import Shielded

ONE = ("--methods", "toy_learns", "--shots", "1", "--seeds", "0", "--datasets", "mvtec_ad", "--categories", "bottle")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["__init__", "tell", "close"])
def test_a_broken_outlet_is_a_remark_of_a_record_that_is_whole(bench, data, tmp_path, monkeypatch, where):
    def broken(*arguments, **named):
        raise OSError("no space left\non the device")

    class Broken(boards.TensorBoard):
        pass

    setattr(Broken, where, broken)
    monkeypatch.setitem(choice.OUTLETS, "tensorboard", Broken)
    done = bench("run", *ONE, "logger=tensorboard", "--results", tmp_path / "r")
    assert done.code == 0
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("r/cells/*/attempt-1.json")]
    assert record["status"] == "ok"
    assert record["metrics"]["bottle"]["image_AUROC"]["value"] == 1.0
    assert record["remarks"] == ["logger=tensorboard stopped (OSError: no space left); the record is complete."]
    assert record["remarks"][0] in done.out


class Counting:
    """An outlet whose logger fails at the second step."""

    def __init__(self):
        self.logger, self.steps, self.closed = self, [], []

    def log_metrics(self, metrics, step):
        self.steps.append(step)
        if step == 1:
            raise RuntimeError("gone")

    def close(self, *, well):
        self.closed.append(well)


def test_after_its_first_error_a_logger_is_left_alone_and_closed():
    outlet = Counting()
    shielded = Shielded("wandb", lambda: outlet)
    for step in range(4):
        shielded.log_metrics({"loss": 1.0}, step)
    shielded.close(well=False)
    shielded.close(well=False)
    assert (outlet.steps, outlet.closed) == ([0, 1], [False])
    assert shielded.problem == "logger=wandb stopped (RuntimeError: gone); the record is complete."


def test_an_error_at_the_end_is_the_one_that_is_told():
    class Late(Counting):
        def close(self, *, well):
            raise TimeoutError("sync it")

    shielded = Shielded("wandb", Late)
    shielded.log_metrics({}, 1)
    shielded.close(well=True)
    assert shielded.problem == "logger=wandb stopped (TimeoutError: sync it); the record is complete."


def test_an_interrupt_passes():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Shielded("wandb", interrupted)
