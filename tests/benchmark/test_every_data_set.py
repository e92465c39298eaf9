"""Each data set runs in each protocol that it can have, through the real loaders, on its twin."""

import json

import pandas as pd
import pytest
import real_twins
import twins
from steps import shorten_fits

from benchmark.request import registry

WRITERS = {
    name.removeprefix("write_"): writer for name, writer in vars(real_twins).items() if name.startswith("write_")
}
WRITERS |= {"mvtec_ad": twins.write_mvtec_ad, "visa": twins.write_visa}
WRITERS.pop("mvtec_category")
QUARTERED = ("brain_mri", "br35h", "head_ct", "lag")
NO_NORMALS = ("cvc_colondb", "cvc_clinicdb", "kvasir", "endo", "isic2016", "tn3k")
NO_MASKS = (*QUARTERED, "elpv", "bmad_oct2017")


@pytest.fixture
def words(tmp_path, monkeypatch):
    def of(name):
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
        root = WRITERS[name](tmp_path / "data" / name)
        fit = ("--methods", "toy_mean", "--shots", "1", "--seeds", "0", "protocol.evaluation_size=24")
        some = sorted(path.name for path in root.iterdir() if (path / "train").is_dir() or (path / "Data").is_dir())
        chosen = {"real_iad": "audiojack,u_block", "dagm": "Class1,Class10", "mvtec_ad_2": "can,walnuts"}.get(name)
        chosen = chosen or ",".join(some if name in ("mvtec_ad", "visa", "mpdd", "dtd_synthetic", "btad") else ())
        return (*fit, "--datasets", name, f"dataset.{name}.root={root}", *(("--categories", chosen) if chosen else ()))

    return of


def statuses(folder):
    return [json.loads(path.read_text())["status"] for path in folder.glob("cells/*/attempt-*.json")]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_data_set_in_every_protocol(bench, words, tmp_path, name):
    protocols = ["zero_shot"] if name in NO_NORMALS else ["few_shot", "multi_class", "zero_shot"]
    variant = [f"dataset.{name}.variant=quarter"] if name in QUARTERED else []
    done = bench("run", *words(name), "--protocols", ",".join(protocols), *variant, "--results", tmp_path / "r")
    assert done.code == 0, done.out + done.err
    assert {*statuses(tmp_path / "r")} == {"ok"}
    table = pd.read_csv(tmp_path / "r" / "leaderboard.csv")
    assert {*table["protocol"].str.partition("(")[0]} == {*protocols}
    alone = table["status"].str.removeprefix("partial: ").str.split(":").str[0]
    assert not alone.str.contains("undefined|nothing").any()
    assert table["image_AUROC"].isna().all() == (name in NO_NORMALS)
    assert table["pixel_AUROC"].isna().all() == (name in NO_MASKS)
    if name in NO_NORMALS:
        assert f"note: {name} has no normal test images: image metrics are undefined" in done.out
    if name in NO_MASKS and name != "lag" and name != "bmad_oct2017":  # whose numbers are not known
        assert "has no masks: pixel metrics are undefined" in done.out


@pytest.mark.parametrize("name", NO_NORMALS)
def test_no_shots_where_there_are_no_normal_images(bench, words, name):
    done = bench("run", *words(name), "--protocols", "few_shot")
    assert done.code == 2
    assert f"nothing is left to run: left out: toy_mean in few_shot on {name}, which has no normal training" in done.err
    both = bench("run", *words(name), "--protocols", "few_shot,zero_shot", "--dry-run")
    assert both.code == 0
    assert f"note: left out: toy_mean in few_shot on {name}" in both.out
    assert "1 cells: 1 missing" in both.out


def test_the_variant_is_part_of_a_row(bench, words, tmp_path):
    asked = words("head_ct")
    for variant in ("all", "quarter"):
        assert bench("run", *asked, "--protocols", "zero_shot", f"dataset.head_ct.variant={variant}",
                     "--results", tmp_path / "r").code == 0  # fmt: skip
    table = pd.read_csv(tmp_path / "r" / "leaderboard.csv")
    assert sorted(table["variant"]) == ["all", "quarter"]
    assert table["comparison"].nunique() == 2


METHODS = tuple(name for name in registry.names("method") if registry.method(name).module.startswith("methods."))


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_data_set_with_every_method_in_every_protocol(bench, words, tmp_path, monkeypatch, name):
    shorten_fits(monkeypatch)
    protocols = ["zero_shot"] if name in NO_NORMALS else ["few_shot", "multi_class", "zero_shot"]
    methods = [each for each in METHODS if {*registry.method(each).protocols} & {*protocols}]
    asked = [",".join(methods) if word == "toy_mean" else word for word in words(name)]
    auxiliary = ("protocol.auxiliary=procedural_auxiliary", "dataset.procedural_auxiliary.train=1")
    auxiliary += ("dataset.procedural_auxiliary.normal=1", "dataset.procedural_auxiliary.per_defect=1")
    variant = [f"dataset.{name}.variant=quarter"] if name in QUARTERED else []
    done = bench("run", *asked, "--protocols", ",".join(protocols), *variant, *auxiliary, "--limit", "3",
                 "--backbone", "embedded_random", "--results", tmp_path / "r")  # fmt: skip
    records = [json.loads(path.read_text()) for path in tmp_path.glob("r/cells/*/attempt-1.json")]
    assert done.code == 0, [record["error"] for record in records if record["status"] != "ok"]
    ran = {(record["cell"]["method"], record["cell"]["protocol"]) for record in records}
    assert ran == {(m, p) for m in methods for p in protocols if p in registry.method(m).protocols}
