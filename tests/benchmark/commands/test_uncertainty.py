"""When the files of uncertainty are made: after a run that ran something, and when they are asked for."""

import pytest

from benchmark.records.uncertainty import FILES


@pytest.mark.slow
def test_a_restart_that_runs_nothing_makes_nothing_anew(bench, data, cells, tmp_path):
    folder = tmp_path / "results"
    words = ("run", "--methods", "toy_mean", "--protocols", "few_shot", "--seeds", "0", "--results", folder, *cells)
    first = bench(*words, "--shots", "1")
    assert first.code == 0, first.err
    assert "No ranks over data sets: " in first.out
    assert all(str(folder / name) in first.out.replace("\n", "") for name in FILES)
    (folder / FILES[0]).write_text("kept")
    assert bench(*words, "--shots", "1").code == 0
    assert (folder / FILES[0]).read_text() == "kept"
    assert bench("leaderboard", folder).code == 0
    assert (folder / FILES[0]).read_text().startswith("method,dataset")
    (folder / FILES[1]).unlink()  # a run that was killed before it came to them
    bench(*words, "--shots", "1")
    assert (folder / FILES[1]).exists()
    (folder / FILES[0]).write_text("older")
    assert bench(*words, "--shots", "1,2").code == 0
    assert (folder / FILES[0]).read_text() != "older"
