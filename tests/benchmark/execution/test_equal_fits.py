"""A fit through Lightning gives the same bits whoever reads its images, and however often its loader was looked at."""

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.data import DataLoader
from twins import write_mvtec_ad

from benchmark.contract import candidates
from benchmark.execution.fitting import make_trainer
from datamodules.components.fit_data import FitData
from datamodules.mvtec_ad import MVTecAD
from methods.faprompt import FAPrompt

EPOCHS = 3


class Watch(Callback):
    """Notes the images of each epoch in their order; looks at the loader between epochs, as a progress bar may."""

    def __init__(self, looks):
        self.looks, self.epochs = looks, []

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append([])
        for _ in range(self.looks):
            next(iter(trainer.train_dataloader))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.epochs[-1] += batch.path


def read(root, workers=0):
    settings = {"image_size": candidates.SIZE, "batch_size": 4, "seed": 5}
    return MVTecAD(root, MVTecAD.categories[:1], num_workers=workers, **settings).fit_loader(FitData("labelled"))


def fit(loader, looks=0):
    """What is learnt, and the images of each epoch."""
    torch.manual_seed(0)
    method = FAPrompt(candidates.small_backbone(), {"bottle": "bottle"})
    method.max_epochs = EPOCHS
    watch = Watch(looks)
    make_trainer(torch.device("cpu"), (), max_epochs=EPOCHS, callbacks=[watch]).fit(method, loader)
    return method.state_dict(), watch.epochs


def same_bits(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key].view(torch.uint8), other[key].view(torch.uint8)) for key in one)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mvtec_ad(tmp_path_factory.mktemp("twin") / "mvtec_ad", MVTecAD.categories[:1])


@pytest.fixture(scope="module")
def plain(root):
    return fit(read(root))


@pytest.mark.slow
def test_each_epoch_shows_all_images_in_an_order_of_its_own(plain):
    _, epochs = plain
    assert len(epochs) == EPOCHS
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert len({*epochs[0]}) == len(epochs[0]) == 7
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "looks"), [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1)])
def test_neither_workers_nor_looks_at_the_loader_change_a_bit(root, plain, workers, looks):
    state, epochs = fit(read(root, workers), looks)
    assert epochs == plain[1]
    assert same_bits(state, plain[0])


@pytest.mark.slow
def test_a_shuffle_of_the_loader_s_own_would(root):
    """The former loaders: what they gave in later epochs depended on how often an iterator had been made of them."""

    def former():
        ours = read(root)
        generator = torch.Generator().manual_seed(5)
        return DataLoader(ours.dataset, 4, shuffle=True, collate_fn=ours.collate_fn, generator=generator)

    (state, epochs), (again, seen), (looked, others) = fit(former()), fit(former()), fit(former(), looks=1)
    assert epochs == seen
    assert same_bits(state, again)
    assert epochs != others
    assert not same_bits(state, looked)
