"""What a plan would take, against sums by hand, in seconds: one fit of 1,725 images and the tests of one category."""

import csv

import pytest

from benchmark.request import costs, registry
from benchmark.request.costs import Cost, estimates, lines
from benchmark.request.plan import make_plan
from benchmark.request.settings import CONFIGS, Layer, compose, parse_words

COST = Cost(step=2.0, step_passes=1, shot=3.0, shot_passes=5, test=0.5, test_passes=2, tower=10.0)
KEYS = ("toy_transfers", "toy_learns", "toy_mean", "anople")


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    monkeypatch.setattr(costs, "_figures", lambda: {(name, "embedded", None): COST for name in KEYS})


def cells(method, datasets=("visa",), words=(), **sweep):
    layer = Layer("test", {"sweep": {"methods": [method], "datasets": list(datasets), "seeds": [0], **sweep}})
    return make_plan(compose([layer, parse_words(words)]), {"folder": ("a", "b")}).cells


def only(*arguments, **sweep):
    (found,) = estimates(cells(*arguments, **sweep))
    return found


def test_a_fit_on_another_set_counts_once_for_all_cells_of_its_seed():
    found = only("toy_transfers", categories=["pcb1", "pcb3"], seeds=[0, 1])
    tests = 2 * (200 + 201)
    own = 2 * 432 * 2.0 + tests * 0.5  # 1,725 images of MVTec AD by batches of 4
    assert (found.cells, found.fits, found.images) == (4, 2, tests)
    assert found.known * 3600 == pytest.approx(own)
    assert found.unknown * 3600 == pytest.approx(own + 10.0 * (2 * 1725 + 2 * tests))


def test_each_set_is_fitted_on_the_other():
    found = only("toy_transfers", ["visa", "mvtec_ad"], categories=["pcb1", "bottle"])
    assert found.fits == 2
    assert found.known * 3600 == pytest.approx((432 + 541) * 2.0 + (200 + 83) * 0.5)  # 2,162 images of VisA by 4


def test_a_fit_on_shots_counts_for_each_cell():
    found = only("toy_learns", ["mvtec_ad"], categories=["bottle"], shots=[1, 4], protocols=["few_shot"])
    own = 3 * (1 + 2) * 2.0 + (1 + 4) * 3.0 + 2 * 83 * 0.5  # three epochs by batches of 2
    assert (found.cells, found.fits, found.images) == (2, 2, 166)
    assert found.known * 3600 == pytest.approx(own)
    assert found.unknown * 3600 == pytest.approx(own + 10.0 * (3 * 5 + 5 * 5 + 2 * 166))


def test_a_fit_of_so_many_steps_takes_them_for_any_number_of_shots():
    found = only("anople", ["mvtec_ad"], categories=["bottle"], shots=[1], protocols=["few_shot"])
    own = 600 * 2.0 + 3.0 + 83 * 0.5
    assert found.known * 3600 == pytest.approx(own)
    assert found.unknown * 3600 == pytest.approx(own + 10.0 * (600 * 8 + 5 + 2 * 83))


def test_nothing_fitted_is_no_fit_and_one_model_for_all_remembers_the_shots_of_all():
    found = only("toy_mean", protocols=["multi_class"], shots=[2])
    assert (found.cells, found.fits, found.images) == (1, 0, 2162)
    assert found.known * 3600 == pytest.approx(2 * 12 * 3.0 + 2162 * 0.5)


def test_a_limit_counts_by_category():
    assert only("toy_mean", protocols=["zero_shot"], categories=["pcb1", "cashew"], limit=160).images == 160 + 150


@pytest.mark.parametrize("words", [["method.scale=2"], ["protocol.precision=bf16"], ["backbone.image_size=96"]])
def test_what_was_not_measured_is_unknown(words):
    found = only("toy_mean", words=words, categories=["pcb1"], shots=[1])
    assert (found.images, found.known, found.unknown) == (200, None, None)


def test_a_set_whose_size_varies_is_left_out_by_name():
    assert only("toy_mean", ["folder"], shots=[1])[3:] == (None, None, None, ("folder", "folder"))
    mixed = cells("toy_mean", ["folder", "visa"], shots=[1])
    (found,), (whole,) = estimates(mixed), estimates(cells("toy_mean", shots=[1]))
    assert (found.images, found.known, found.unknown) == (whole.images, whole.known, whole.unknown)
    told = lines(mixed)
    assert "left out: 2 cells on folder, whose files do not say how many images there are" in told
    assert "(of all methods, without what is left out)" in told[-1]


def test_a_fit_on_a_set_whose_size_varies_is_left_out():
    found = only("toy_transfers", words=["protocol.auxiliary=procedural_auxiliary"], categories=["pcb1"])
    assert (found.known, found.left_out) == (None, ("procedural_auxiliary",))


def test_a_total_names_what_is_unknown():
    known, other = (
        cells("toy_mean", categories=["pcb1"], shots=[1]),
        cells("toy_breaks", categories=["pcb1"], shots=[1]),
    )
    assert lines(known)[-1].startswith("total: 0.0 h, or 1.2 h if no feature is known (of all methods)")
    assert "1.2 h if no feature is known (at least; unknown: toy_breaks)" in lines([*known, *other])[-1]
    assert lines(other)[-1].startswith("total: unknown")
    assert lines([]) == []


def test_published_numbers_of_test_images():
    for name, total in {"mvtec_ad": 467 + 1258, "visa": 962 + 1200}.items():
        facts = registry.dataset(name)
        counts = facts.counts["standard"]
        assert {*counts} == {*facts.categories}
        assert sum(normal + anomalous for _, normal, anomalous in counts.values()) == total


def test_the_figures_are_those_of_methods_in_their_present_shape():
    with (CONFIGS / costs.FIGURES).open(newline="") as table:
        found = list(csv.DictReader(table))
    assert {line["method"] for line in found} <= {*registry.names("method")}
    for line in found:
        values = Cost(*(float(line[key]) for key in Cost._fields))
        assert min(values) >= 0 < values.tower
        assert (values.step > 0) == (registry.method(line["method"]).fits_on != "nothing")
