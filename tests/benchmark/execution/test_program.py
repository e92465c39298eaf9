"""Every method becomes a program of the image alone, equal to the method, or it is said why it cannot."""

import sys

import open_clip
import pytest
import torch

from benchmark.contract.candidates import SMALL, candidates, noise_images
from benchmark.execution import exporting, program
from benchmark.execution.exporting import ONNX, PROGRAM, export, prove
from benchmark.execution.program import ExportError, Judge, check_fixed, trace, why_not
from benchmark.request import registry
from methods.components.clip.backbone import CLIPBackbone

EVERY = [each for name in registry.names("method") for each in candidates(name)]
FIRST = [
    pytest.param(each, id=each.name, marks=pytest.mark.campaign if each.name in ("af_clip", "april_gan") else ())
    for name in registry.names("method")
    for each in candidates(name)[:1]
]
#: Methods that are no function of the image alone, and a word of the reason.
REFUSED = {"faprompt": "text tower", "anovl": "fitted on each test image"}


@pytest.fixture(scope="module")
def tiny():
    """The small CLIP with two image blocks, since the time of an export is in their number."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(**{**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "layers": 2}})
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())


def judge_of(candidate, backbone=None):
    return Judge(candidate.prepare(backbone=backbone), candidate.categories[-1])


def first(name, words=()):
    return candidates(name, words)[0]


def numbers(constants):
    return sum(each.numel() for each in constants.values() if isinstance(each, torch.Tensor))


@pytest.mark.parametrize("candidate", FIRST)
def test_a_method_is_a_function_of_the_image_or_says_why_not(candidate):
    reason = why_not(judge_of(candidate), noise_images(1))
    assert REFUSED.get(candidate.name, "") in reason
    assert bool(reason) == (candidate.name in REFUSED)


def test_what_a_setting_makes_of_the_other_test_images_is_seen():
    few = next(
        each for each in candidates("april_gan", ["method.few_shot_score=transductive"]) if "few" in each.protocol
    )
    assert "other test images" in why_not(judge_of(few), noise_images(1))


def test_a_method_that_draws_is_seen():
    judge = judge_of(first("trivial_colour_outlier"))
    said = judge.method.predict
    object.__setattr__(judge.method, "predict", lambda *given: _noisy(said(*given)))
    assert "random" in why_not(judge, noise_images(1))


def _noisy(prediction):
    prediction.score = prediction.score + torch.rand(1)
    return prediction


def test_watching_leaves_no_hook_behind(tiny):
    why_not(judge_of(first("coop"), tiny), noise_images(1))
    assert not any(block._forward_pre_hooks for block in tiny.clip.transformer.resblocks)
    assert not sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks


@pytest.mark.parametrize("name", ["coop", pytest.param("winclip", marks=pytest.mark.campaign)])
def test_both_files_say_what_the_method_says_and_hold_no_text_tower(name, tiny, tmp_path):
    judge = judge_of(first(name), tiny)
    written = export(judge, noise_images(2), 2, tmp_path)
    assert written.refused == {}
    assert written.proven.keys() == {PROGRAM, ONNX}
    other = noise_images(2, seed=11)  # that the proof has not seen
    with torch.no_grad():
        expected = tuple(judge.method.predict(other, [judge.category] * 2))
        said = torch.export.load(tmp_path / PROGRAM).module()(other)
    for its in (said, program.run_onnx(tmp_path / ONNX, [other])):
        for one, two in zip(its, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-4)
    assert _text_weights(tmp_path, tiny) == (set(), set())


def _text_weights(folder, backbone):
    """Names of text weights that each file holds, and each file's size must be that of the image side."""
    import onnx

    own = dict(backbone.clip.named_parameters())
    text = {name: value for name, value in own.items() if not name.startswith("visual.") and value.numel() > 100}
    image = sum(value.numel() for name, value in own.items() if name.startswith("visual."))
    constants = [*torch.export.load(folder / PROGRAM).constants.values()]
    graph = onnx.load(folder / ONNX).graph
    initializers = [torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer]
    assert image * 0.9 < sum(each.numel() for each in initializers) < image * 1.5
    return tuple(
        {name for name, value in text.items() if any(_same(value, each) for each in held)}
        for held in (constants, initializers)
    )


def _same(one, other):
    flat = other.flatten()
    return any(torch.equal(one.detach().flatten(), flat) for one in (one, one.T if one.ndim == 2 else one))


def test_a_program_that_says_something_else_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    judge = judge_of(first("trivial_colour_outlier"))
    real = exporting.run_program
    monkeypatch.setattr(exporting, "run_program", lambda *given: _shifted(real(*given), 2e-4))
    with pytest.raises(
        ExportError, match=r"TrivialColourOutlier cannot be exported: its scores differ by up to 0.0002"
    ):
        export(judge, noise_images(1), 1, tmp_path)


def test_an_onnx_file_that_says_something_else_goes_and_the_program_stays(tmp_path, monkeypatch):
    judge = judge_of(first("trivial_pixel_difference"))
    real = exporting.run_onnx
    monkeypatch.setattr(exporting, "run_onnx", lambda *given: _shifted(real(*given), float("nan")))
    written = export(judge, noise_images(1), 1, tmp_path)
    assert "its scores differ by up to nan" in written.refused[ONNX]
    assert {path.name for path in tmp_path.iterdir()} == {PROGRAM}


def _shifted(rows, by):
    return rows[0] + by, rows[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4)), "anomaly_maps of the shape"),
        ((torch.tensor([1.0]), torch.zeros(1, 4, 4)), "scores of the shape"),
        ((torch.tensor([1.0, 2.0]), torch.full((2, 4, 4), 2e-4)), "anomaly_maps differ"),
        ((torch.tensor([1.0, 2.001]), torch.zeros(2, 4, 4)), "scores differ"),
    ],
)
def test_equality_is_of_shapes_scores_and_maps(wrong, message):
    expected = torch.tensor([1.0, 2.0]), torch.zeros(2, 4, 4)
    prove((torch.tensor([1.00009, 2.00019, 7.0]), torch.zeros(3, 4, 4)), expected)
    with pytest.raises(ExportError, match=message):
        prove(wrong, expected)


def test_what_torch_cannot_trace_is_named(tiny):
    judge = judge_of(first("faprompt"), tiny)
    with pytest.raises(ExportError, match="cannot trace it"):
        trace(judge, noise_images(1))


@pytest.mark.parametrize(("side", "grid", "channels"), [(2, (4, 5), 1), (3, (3, 3), 2)])
def test_the_plain_fold_is_that_of_torch(side, grid, channels):
    windows = (grid[0] - side + 1) * (grid[1] - side + 1)
    columns = torch.rand(2, channels * side**2, windows, dtype=torch.float64)
    expected = torch.nn.functional.fold(columns, grid, side)
    plain = program._fold(columns, grid, (side, side), (1, 1), (0, 0), (1, 1))
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_the_plain_distances_are_those_of_torch(p):
    here, there = torch.rand(3, 5, 4), torch.rand(7, 4)
    torch.testing.assert_close(program._distances(here, there, p), torch.cdist(here, there.expand(3, 7, 4), p))


@pytest.mark.campaign
def test_anovl_without_its_adapter_is_exported(tmp_path):
    assert export(judge_of(first("anovl", ["method.adapter=false"])), noise_images(1), 1, tmp_path).refused == {}


@pytest.mark.campaign
@pytest.mark.parametrize("candidate", EVERY, ids=lambda each: f"{each.name}-{each.protocol}")
def test_every_method_is_exported_with_proof_or_refused(candidate, tmp_path):
    judge = judge_of(candidate)
    if candidate.name in REFUSED:
        with pytest.raises(ExportError, match=REFUSED[candidate.name]):
            check_fixed(judge, noise_images(1))
        return
    written = export(judge, noise_images(2), 1, tmp_path)
    assert written.refused == {}
    assert {path.name for path in tmp_path.iterdir()} == {PROGRAM, ONNX}
    if candidate.cls.needs:
        assert _no_text(tmp_path, judge.method.backbone)


def _no_text(folder, backbone):
    held = torch.export.load(folder / PROGRAM).constants.values()
    text = [v for n, v in backbone.clip.named_parameters() if not n.startswith("visual.") and v.numel() > 100]
    return not any(torch.equal(value.flatten(), each.flatten()) for value in text for each in held)
