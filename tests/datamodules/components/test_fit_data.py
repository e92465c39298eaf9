"""Loaders of a fit are what a method asks for: which images, how large, how many at once, how often read."""

import pytest
import torch
from twins import write_mvtec_ad

from datamodules.components import reading
from datamodules.components.fit_data import FitData
from datamodules.mvtec_ad import MVTecAD


@pytest.fixture
def data(tmp_path):
    root = write_mvtec_ad(tmp_path / "mvtec_ad", ["bottle"])
    return MVTecAD(root, ["bottle"], image_size=16, shots=3, batch_size=2)


@pytest.fixture
def reads(monkeypatch):
    """Files whose pixels were decoded."""
    read, files = reading.read_image, []
    monkeypatch.setattr(
        reading, "read_image", lambda path, size, cache=None: files.append(path.name) or read(path, size)
    )
    return files


@pytest.mark.parametrize(("once", "times"), [(True, 1), (False, 4)])
def test_kept_batches_are_read_once_however_many_epochs_there_are(data, reads, once, times):
    loader = data.fit_loader(FitData("shots", once=once))
    epochs = [list(loader) for _ in range(4)]
    assert len(reads) == 3 * times
    assert [len(batch.label) for batch in epochs[0]] == [2, 1]
    assert all(torch.equal(batch.image, first.image) for e in epochs for batch, first in zip(e, epochs[0], strict=True))


def test_nothing_is_no_batch(data, reads):
    assert list(data.fit_loader(FitData("nothing"))) == reads == []


@pytest.mark.parametrize("batch_size", [None, 5])
def test_batches_are_the_method_s_and_images_and_masks_of_its_scale(data, batch_size):
    batches = list(data.fit_loader(FitData("labelled", batch_size=batch_size, scale=2)))
    assert [len(batch.label) for batch in batches] == ([2, 2, 2, 1] if batch_size is None else [5, 2])
    assert {batch.image.shape[1:] for batch in batches} == {(3, 32, 32)}
    assert {batch.mask.shape[1:] for batch in batches} == {(32, 32)}
    assert {bool(label) for batch in batches for label in batch.label} == {True, False}
