"""A loss curve begins with the first step, however short or long the fit."""

import pandas as pd
import pytest

from benchmark.execution import fitting


@pytest.mark.slow
@pytest.mark.parametrize(("points", "steps"), [(200, list(range(15))), (5, [0, 2, 5, 8, 11, 14]), (1, [0, 14])])
def test_the_first_step_is_logged_and_then_every_nth(bench, data, tmp_path, monkeypatch, points, steps):
    monkeypatch.setattr(fitting, "CURVE", points)
    words = ("--methods", "toy_learns", "--seeds", "0", "--shots", "5", "method.batch_size=1")
    more = ("--datasets", "mvtec_ad", "--categories", "bottle", "--results", tmp_path / "r")
    done = bench("run", *words, *more)
    assert done.code == 0, done.err
    (path,) = (tmp_path / "r").glob("cells/*/attempt-1/metrics.csv")
    assert pd.read_csv(path).dropna(subset=["train/loss"])["step"].tolist() == steps
