"""What TAB offers, through the protocol by which a shell asks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.request import registry

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tab(bench, monkeypatch):
    """What is offered for the last of some words; nothing may stand on the standard error."""

    def ask(*words):
        with monkeypatch.context() as patch:
            patch.setenv(cli.COMPLETE, "complete_bash")
            patch.setenv("COMP_WORDS", "\n".join(["bench", *words]))
            patch.setenv("COMP_CWORD", str(len(words)))
            patch.setattr(sys, "stderr", sys.stderr)  # which `main` replaces
            done = bench()
        assert not done.err
        return done.out.split()

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("lea",), ["leaderboard"]),
        (("run", "--methods", "anople,fa"), ["anople,faprompt"]),
        (("run", "--methods", "winclip,win"), []),
        (("run", "--protocols", "few"), ["few_shot"]),
        (("run", "--preset", "smo"), ["smoke"]),
        (("run", "--backbone", "embedded_"), ["embedded_random"]),
        (("run", "--datasets", "visa", "--categories", "pcb1,pcb"), ["pcb1,pcb2", "pcb1,pcb3", "pcb1,pcb4"]),
        (("run", "--datasets", "visa", "--prot"), ["--protocols"]),
        (("run", "--overwrite", "al"), ["always"]),
        (("run", "method.winclip.temp"), ["method.winclip.temperature=0.01"]),
        (("run", "protocol.regions"), ["protocol.regions=resized", "protocol.regions=native"]),
        (("run", "protocol.published_metric"), ["protocol.published_metric=true", "protocol.published_metric=false"]),
        (("run", "dataset.folder.root"), ["dataset.folder.root=null"]),
        (("run", "method.winclip.bank", "=", "p"), ["per_class", "pooled"]),
        (("run", "executor", "="), ["local", "pool", "ray"]),
        (("list", "pres"), ["presets"]),
        (("show", "me"), ["method"]),
        (("show", "method", "winc"), ["winclip"]),
        (("show", "preset", "paper/winc"), ["paper/winclip"]),
        (("show", "nonsense", "winc"), []),
        (("check", "winc"), ["winclip"]),
        (("data", "verify", "vis"), ["visa"]),
        (("captions", "show", "vis"), ["visa"]),
        (("leaderboard", "r", "--metrics", "image_AUROC,image_F"), ["image_AUROC,image_F1Max"]),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_names_lists_and_settings_are_completed(tab, words, offered):
    assert tab(*words) == offered


def test_all_methods_are_offered_also_of_a_third_party_and_broken_ones(tab, tmp_path, monkeypatch):
    assert tab("run", "--methods", "") == [*registry.names("method")]
    assert "toy_mean" in tab("run", "--methods", "toy")
    (tmp_path / "bad.py").write_text("def broken(:\n")
    monkeypatch.setitem(registry._modules("method"), "toy_bad", [registry.Claim("bad", tmp_path / "bad.py")])
    assert "toy_bad" in tab("run", "--methods", "toy")
    assert "method.toy_mean.scale=1.0" in tab("run", "method.toy_")


@pytest.mark.parametrize(
    "words",
    [("run", "--shots", "1", "--shots", "2", "--methods", "win"), ("run", "--bogus", "x", "--methods", "win")],
    ids=" ".join,
)
def test_a_line_that_is_wrong_is_completed_and_not_complained_of(tab, words):
    assert tab(*words) == ["winclip"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_real_bash_fills_the_line_with_what_is_offered(tmp_path):
    program = tmp_path / "bench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m benchmark "$@"\n')
    program.chmod(0o755)
    script = """
    eval "$(bench --show-completion bash)"
    complete -p bench
    COMP_WORDS=(bench run --methods anople,fa); COMP_CWORD=3
    _bench_completion bench anople,fa --methods; echo "${COMPREPLY[@]}"
    """
    variables = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SHELL": "/bin/bash",
    }
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["complete -o default -F _bench_completion bench", "anople,faprompt"]
