"""The two synthetic data sets: halves of one engine's categories, each in a folder of its own."""

import numpy as np
import pytest

from datamodules.components.fit_data import FitData
from datamodules.components.rendering import CATEGORIES, GOOD, RENDERING_VERSION, catalogue, render, render_twin
from datamodules.components.rendering.cache import Counts, folder_name
from datamodules.components.sample import DataError
from datamodules.procedural import Procedural
from datamodules.procedural_auxiliary import ProceduralAuxiliary


def test_the_folder_is_named_by_all_that_changes_it():
    names = {
        folder_name(seed, size, counts, categories)
        for seed in (0, 1)
        for size in (128, 256)
        for counts in (Counts(), Counts(2), Counts(normal=2))
        for categories in (Procedural.categories, ProceduralAuxiliary.categories, tuple(CATEGORIES))
    }
    assert len(names) == 36
    assert all(name.startswith(f"drawn-v{RENDERING_VERSION}-") for name in names)


def test_the_two_sets_share_no_category_and_leave_none_out():
    assert sorted((*Procedural.categories, *ProceduralAuxiliary.categories)) == sorted(CATEGORIES)
    for kind in ("texture", "object"):
        halves = [[*data.kinds.values()].count(kind) for data in (Procedural, ProceduralAuxiliary)]
        assert halves == [4, 4]


@pytest.mark.parametrize("data", [Procedural, ProceduralAuxiliary])
def test_the_literals_are_the_engine_s(data):
    assert data.kinds == {name: CATEGORIES[name].kind for name in data.categories}
    defaults = data.Config()
    assert Counts() == (defaults.train, defaults.normal, defaults.per_defect)
    # other pixels, or other categories, needs another variant
    assert (RENDERING_VERSION, len(data.categories), data.variant) == (3, 8, "drawn-v3")


@pytest.mark.slow
def test_the_datamodule(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    config = Procedural.Config(draw_seed=3, size=32, train=3, normal=2, per_defect=1)
    data = Procedural(None, ["gear", "wood"], image_size=32, shots=2, config=config)
    assert data.root == tmp_path / folder_name(3, 32, Counts(3, 2, 1), Procedural.categories)
    assert not data.root.exists()  # a constructor renders nothing
    with pytest.raises(DataError, match="does not exist"):
        data.setup("fit")
    data.prepare_data()
    data.verify()
    assert sum(len(batch.indices) for batch in data.test_dataloader()) == 2 * (2 + 3)
    batches = list(data.fit_loader(FitData("labelled")))
    assert sum(len(batch.label) for batch in batches) == 2 * (2 + 3)
    for batch in batches:
        assert (batch.mask.flatten(1).any(1) == batch.label).all()
    assert {sample.defect_type for sample in data.tests("gear")} == {GOOD, *CATEGORIES["gear"].defects}


@pytest.mark.parametrize(
    ("category", "defect", "contrast"),
    [("wood", "crack", 1.35), ("tiles", "missing", 1.35), ("gear", "scratch", 2.0), ("gear", "missing", 1.0)],
)
def test_a_defect_has_the_contrast_of_its_kind(category, defect, contrast, monkeypatch):
    asked = render(category, "test", defect, 0, size=64).image
    twin = render_twin(category, "test", defect, 0, size=64).astype(float)
    monkeypatch.setattr(catalogue, "CONTRAST", dict.fromkeys(catalogue.CONTRAST, 1.0))
    plain = render(category, "test", defect, 0, size=64).image.astype(float)
    expected = np.clip(twin + contrast * (plain - twin), 0, 255)
    assert np.abs(asked - expected).max() <= 0.5 + 1e-6
    assert np.abs(plain - twin).max() > 10


def test_a_root_of_the_user_is_never_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    data = Procedural(tmp_path / "mine", ["gear"], image_size=16, config=Procedural.Config(size=32))
    data.prepare_data()
    assert list(tmp_path.iterdir()) == []
