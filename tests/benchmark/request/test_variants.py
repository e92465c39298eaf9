"""Variants of a method are settings like any other: merged, checked, planned, shown and named by their request."""

import pytest
import yaml

from benchmark.request.compose import AXES, read_request
from benchmark.request.plan import make_plan
from benchmark.request.registry import ConfigError
from benchmark.request.settings import Layer, choices, chosen, compose, parse_words, read_yaml
from benchmark.request.variants import trials

ASKED = {"methods": ["toy_mean", "toy_learns"], "datasets": ["mvtec_ad"], "shots": [1, 2], "seeds": [0, 1]}
THREE = {"plain": {}, "wide": {"scale": 2}, "square, one side": {"kind": "square", "sides": [1]}}
SAID = {"source": "a table", "backbone": "ViT-B-16", "metric": "image_AUROC"}


def settings(variants, published=None, words=(), **sweep):
    said = {"published": published} if published else {}
    return compose([Layer("mine.yaml", {"sweep": ASKED | sweep, "variants": variants} | said), parse_words(words)])


def test_a_variant_is_the_methods_settings_and_its_own():
    made = settings({"toy_mean": THREE}, words=["method.toy_mean.pause=0.5", "method.toy_mean.scale=3"])
    assert [variant["label"] for variant in made["variants"]["toy_mean"]] == list(THREE)
    assert [variant["settings"] for variant in made["variants"]["toy_mean"]] == [
        {"scale": 3.0, "sides": [1, 2], "kind": "abs", "pause": 0.5},
        {"scale": 2.0, "sides": [1, 2], "kind": "abs", "pause": 0.5},
        {"scale": 3.0, "sides": [1], "kind": "square", "pause": 0.5},
    ]
    assert made["variants"]["toy_mean"][1]["changes"] == {"scale": 2.0}
    assert made.origins["variants.toy_mean"] == "mine.yaml"
    assert made["method"]["toy_mean"]["scale"] == 3.0


def test_without_variants_there_is_no_such_group():
    assert "variants" not in compose([Layer("mine.yaml", {"sweep": ASKED})]).values


def test_the_last_layer_that_names_variants_replaces_them_with_their_figures():
    figures = {"toy_mean": SAID | {"figures": {"wide": {"visa": 80}}}}
    first = Layer("first", {"sweep": ASKED, "variants": {"toy_mean": THREE}, "published": figures})
    assert compose([first])["published"]["toy_mean"] == figures["toy_mean"]
    second = Layer("second", {"variants": {"toy_mean": {"a": {}, "b": {"scale": 9}}}})
    made = compose([first, second])
    assert [variant["label"] for variant in made["variants"]["toy_mean"]] == ["a", "b"]
    assert "published" not in made.values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"toy_maen": THREE}, r"unknown method of variants \(mine.yaml\) 'toy_maen'. Did you mean 'toy_mean'"),
        ({"toy_mean": {"a": {}, "b": {"scael": 1}}}, r"mine.yaml, variant 'b'.*'method.toy_mean.scael'.*scale"),
        (
            {"toy_mean": {"a": {}, "b": {"scale": "x"}}},
            r"toy_mean.scale \(mine.yaml, variant 'b'\) must be float",
        ),
        ({"toy_mean": {"a": {}, "b": {"kind": "cube"}}}, r"variant 'b'.* 'cube'.*Allowed: abs, square"),
        ({"toy_mean": {"a": {}, "b": 3}}, r"variants.toy_mean.b \(mine.yaml\) must be a mapping, got 3"),
        ({"toy_mean": {"a": {}}}, r"variants.toy_mean \(mine.yaml\) must name two settings or more.* got a\."),
        ({"toy_mean": {"": {}, "b": {"scale": 2}}}, r"must have labels that differ and are not empty, got '', 'b'"),
        ({"toy_mean": {1: {}, "1": {"scale": 2}}}, r"labels that differ and are not empty, got 1, '1'"),
        ({"toy_mean": None}, r"must name two settings or more, the reference first, got none"),
        ({"toy_mean": ["a"]}, r"variants.toy_mean \(mine.yaml\) must be a mapping, got \['a'\]"),
        ("toy_mean", r"variants \(mine.yaml\) must be a mapping, got 'toy_mean'"),
        ({"toy_mean": {"a": {}, "b": {"scale": 1.0}}}, r"'a' and 'b' have the same settings"),
    ],
)
def test_wrong_variants_are_refused(variants, message):
    with pytest.raises(ConfigError, match=message):
        settings(variants)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"figures": {"wied": {"visa": 80}}}, r"published.toy_mean \(mine.yaml\) 'wied'. Did you mean 'wide'"),
        ({"figures": {"wide": {"viza": 80}}}, r"'viza'. Did you mean 'visa'"),
        ({"figures": {"wide": {"visa": "?"}}}, r"wide, visa must be percent from 0 to 100, got '\?'"),
        ({"figures": {"wide": {"visa": 101}}}, r"must be percent from 0 to 100, got 101"),
        ({"figures": {"wide": 80}}, r"published.toy_mean.figures.wide \(mine.yaml\) must be a mapping, got 80"),
        ({}, r"published.toy_mean.figures \(mine.yaml\) must be a mapping, got None"),
        ({"figures": {}, "source": ""}, r"must have source, backbone, metric and figures; source is missing"),
        ({"figures": {}, "metric": "AUROC"}, r"published.toy_mean.metric.*'AUROC'"),
        ({"figures": {}, "page": 3}, r"'published.toy_mean.page'"),
    ],
)
def test_wrong_figures_are_refused(said, message):
    with pytest.raises(ConfigError, match=message):
        settings({"toy_mean": THREE}, {"toy_mean": SAID | said})


def test_figures_need_variants_beside_them_and_both_a_known_method():
    with pytest.raises(ConfigError, match=r"published.toy_learns \(mine.yaml\) needs variants.toy_learns beside it"):
        settings({"toy_mean": THREE}, {"toy_learns": SAID | {"figures": {}}})
    with pytest.raises(ConfigError, match=r"unknown method of published \(mine.yaml\) 'toy_maen'"):
        settings({"toy_mean": THREE}, {"toy_maen": SAID | {"figures": {}}})


def test_a_label_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("variants: {toy_mean: {a: {}, b: {scale: 2}, a: {scale: 3}}}")
    with pytest.raises(ConfigError, match="found duplicate key a"):
        read_request(None, path, {}, None, None, [])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["few_shot", "multi_class"])
def test_every_variant_has_the_cells_of_the_method_and_others_keep_theirs(protocol):
    made = settings({"toy_mean": THREE}, protocols=[protocol], methods=["toy_mean"])
    cells = make_plan(made, {}).cells
    alone = make_plan(compose([Layer("", {"sweep": ASKED | {"protocols": [protocol], "methods": ["toy_mean"]}})]), {})
    assert len({cell.id for cell in cells}) == len(cells) == 3 * len(alone.cells)
    assert {cell.id for cell in alone.cells} < {cell.id for cell in cells}  # the reference is the method itself
    assert [cell.method_label for cell in cells[:3]] == [
        "toy_mean",
        "toy_mean(scale=2.0)",
        "toy_mean(kind=square, sides=[1])",
    ]


def test_trials_hold_each_cell_once_under_its_label():
    made = settings({"toy_mean": THREE}, protocols=["few_shot", "multi_class"], methods=["toy_mean"])
    cells = {cell.id: cell for cell in make_plan(made, {}).cells}
    found = trials(cells.values())["toy_mean"]
    assert sorted(cell for trial in found for cell in trial["cells"].values()) == sorted(cells)
    for trial in found:
        for label, cell_id in trial["cells"].items():
            cell = cells[cell_id]
            assert THREE[label].items() <= cell.settings.method.items()
            assert (trial["seed"], trial["shots"], trial["protocol"]) == (cell.seed, cell.shots, cell.protocol)
            assert trial["categories"] == list(cell.categories)


def test_a_variant_that_names_a_file_stands_in_the_trial_of_the_others(tmp_path):
    path = tmp_path / "states.json"
    path.write_text('{"bottle": ["with rust"]}')
    variants = {"promptad": {"ours": {}, "mine": {"states_file": str(path)}, "generic": {"states": "generic"}}}
    made = settings(variants, methods=["promptad"], categories=["bottle"], shots=[1], seeds=[0])
    cells = make_plan(made, {}).cells
    assert [cell.label for cell in cells] == ["ours", "mine", "generic"]
    assert "method.states_file" in cells[1].files
    (trial,) = trials(cells)["promptad"]
    assert trial["cells"] == {cell.label: cell.id for cell in cells}


def test_labels_follow_their_cells_in_any_order_and_cells_without_one_make_no_trial():
    cells = make_plan(settings({"toy_mean": THREE}, shots=[1], seeds=[0], categories=["bottle"]), {}).cells
    (trial,) = trials(reversed(cells))["toy_mean"]
    assert trial["cells"] == {cell.label: cell.id for cell in cells if cell.method == "toy_mean"}
    assert trials(cell for cell in cells if cell.method == "toy_learns") == {}


def sweep_name(tmp_path, variants, words=()):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"sweep": ASKED} | ({"variants": variants} if variants else {}), sort_keys=False))
    return read_request(None, path, dict.fromkeys(AXES), None, None, words).sweep


@pytest.mark.slow
def test_the_request_is_named_by_settings_and_their_order_not_by_labels(tmp_path):
    names = [
        sweep_name(tmp_path, variants)
        for variants in (
            None,
            {"toy_mean": {"a": {}, "b": {"scale": 2}}},
            {"toy_mean": {"a": {}, "b": {"scale": 3}}},
            {"toy_mean": {"b": {"scale": 2}, "a": {}}},
        )
    ]
    assert len(set(names)) == 4
    assert sweep_name(tmp_path, {"toy_mean": {"first": {}, "second": {"scale": 2.0}}}) == names[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in choices("preset") if name.endswith("-ablation")])
def test_an_ablation_compares_over_five_seeds_on_the_synthetic_set_and_shows_what(bench, tmp_path, name):
    made = compose([chosen("preset", name)])
    assert len(made["sweep"]["seeds"]) >= 5
    assert made["sweep"]["datasets"] == ["procedural"]
    (method,) = made["variants"]
    (tmp_path / "shown.yaml").write_text(bench("show", "preset", name).out)
    again = compose([read_yaml(tmp_path / "shown.yaml")])
    assert again["variants"] == made["variants"]
    assert again.values.get("published") == made.values.get("published")
    listed = bench("run", "--preset", name, "--dry-run", "--results", tmp_path).out
    models = 1 if made["sweep"]["protocols"] == ["multi_class"] else 8
    assert f"{len(made['variants'][method]) * 5 * models} cells: " in listed
