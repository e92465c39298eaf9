"""What makes a kept result a stale one, without a look at a value: a look would wait for a GPU."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from methods.components.clip.text_tower import Tokens
from methods.components.prompts import Unchanged, join


class Learner(L.LightningModule):
    """Keeps the sum of two parameters, and counts how often it is computed."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
        self.kept, self.count = Unchanged(), 0

    @torch.no_grad()
    def total(self):
        return self.kept(self.parameters(), self.compute).item()

    def compute(self):
        self.count += 1
        return self.first.sum() + self.second.sum()

    def test_step(self, batch, batch_idx):
        self.log("total", self.total())


def step(learner, make, **settings):
    optimizer = make(learner.parameters(), lr=0.1, **settings)
    learner.compute().backward()
    optimizer.step()


@torch.inference_mode()
def add_in_inference_mode(learner):
    learner.first.add_(1)


@torch.no_grad()
def add_to_a_view(learner):
    learner.second[1].add_(1)


def copy_as_a_checkpoint(learner, *, assign):
    learner.load_state_dict({"first": torch.zeros(3), "second": torch.zeros(2, 2)}, assign=assign)


WRITES = {
    "Adam": lambda learner: step(learner, torch.optim.Adam),
    "AdamW, foreach": lambda learner: step(learner, torch.optim.AdamW, foreach=True),
    "SGD, no foreach": lambda learner: step(learner, torch.optim.SGD, foreach=False),
    "checkpoint": lambda learner: copy_as_a_checkpoint(learner, assign=False),
    "checkpoint, assigned": lambda learner: copy_as_a_checkpoint(learner, assign=True),
    "in inference mode": add_in_inference_mode,
    "to a view": add_to_a_view,
    "to what is detached": lambda learner: learner.first.detach().zero_(),
    "another tensor as .data": lambda learner: setattr(learner.first, "data", torch.zeros(3)),
    "another parameter": lambda learner: setattr(learner, "first", nn.Parameter(torch.zeros(3))),
    "initialiser": lambda learner: nn.init.zeros_(learner.second),
    "vector_to_parameters": lambda learner: vector_to_parameters(torch.zeros(7), learner.parameters()),
    "to double": lambda learner: learner.double().load_state_dict({"first": torch.zeros(3)}, strict=False),
}


@pytest.mark.parametrize("write", WRITES)
def test_writes_that_are_seen(write):
    learner = Learner().eval()
    assert (learner.total(), learner.total(), learner.count) == (7, 7, 1)
    WRITES[write](learner)
    expected = sum(parameter.sum().item() for parameter in learner.parameters())
    assert expected != 7
    assert learner.total() == pytest.approx(expected)


UNCOUNTED = {
    "into .data": lambda learner: learner.first.data.add_(1),
    "into an array": lambda learner: learner.first.detach().numpy().__iadd__(1),
    "Adam, fused": lambda learner: step(learner, torch.optim.Adam, fused=True),
}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("write", UNCOUNTED)
def test_writes_that_are_seen_from_the_next_change_of_mode_on(write, mode):
    learner = Learner().eval()
    learner.total()
    UNCOUNTED[write](learner)
    expected = sum(parameter.sum().item() for parameter in learner.parameters())
    assert learner.total() == 7 != expected  # the price of not looking at values
    getattr(learner, mode)()
    assert learner.total() == pytest.approx(expected)


def test_a_fit_with_a_fused_optimiser_is_seen():
    learner = Learner()
    assert learner.total() == 7
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.1, fused=True)
    learner.kept(learner.parameters(), learner.compute).backward()
    optimizer.step()
    assert learner.total() == pytest.approx(6.3)


def test_each_run_of_a_trainer_sees_a_write_into_data():
    learner, loader = Learner(), torch.utils.data.DataLoader(torch.zeros(3, 1))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    assert trainer.test(learner, loader, verbose=False) == [{"total": 7}]
    learner.first.data.add_(1)
    assert trainer.test(learner, loader, verbose=False) == [{"total": 10}]
    assert learner.count == 2  # of six batches


def test_nothing_is_kept_where_gradients_are_recorded():
    learner = Learner()
    for _ in range(2):
        assert learner.kept(learner.parameters(), learner.compute).requires_grad
    assert learner.count == 2
    assert (learner.total(), learner.total(), learner.count) == (7, 7, 3)


def test_tensors_of_inference_mode_count_no_writes_so_nothing_is_kept():
    with torch.inference_mode():
        kept, tensor = Unchanged(), torch.ones(2)
        assert kept([tensor], tensor.sum) == 2
        tensor.add_(1)
        assert kept([tensor], tensor.sum) == 4


def test_a_recycled_address_is_no_old_tensor():
    kept = Unchanged()
    with torch.no_grad():
        for value in range(20):
            parameter = nn.Parameter(torch.full((1000,), float(value)))
            assert kept([parameter], parameter.mean) == value
            del parameter


def test_joined_sources_stay_apart_and_are_known_only_if_all_are():
    ids, embeddings = torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, 3)
    one = Tokens(ids, embeddings, torch.tensor([[[5], [6]]]))
    two = Tokens(ids, embeddings, torch.tensor([[[5, 0], [6, 7]]]))
    sources = join(one, two).sources
    assert sources.shape == (2, 2, 2)
    assert len(sources.flatten(0, 1).unique(dim=0)) == 4
    assert join(one, Tokens(ids, embeddings)).sources is None
