"""new_method keeps the promises of every method, and a fit does what its loss says."""

import torch

from benchmark.contract.candidates import candidates, noise_images
from benchmark.contract.promises import check
from datamodules.components.sample import Batch

NAME = "new_method"
CATEGORY = "metal_nut"


def test_keeps_every_promise() -> None:
    """Checks what `bench check` prints."""
    assert [outcome for outcome in check(NAME) if outcome.problem] == []


def test_a_fit_makes_its_shots_look_more_normal() -> None:
    """The loss falls, and with it the scores of the images that it was fitted on."""
    (candidate, *_) = candidates(NAME)
    method = candidate.build([CATEGORY])
    images = noise_images(4)
    unmarked = torch.zeros(4, 64, 64, dtype=torch.bool)
    batch = Batch(images, unmarked, unmarked.any(dim=(1, 2)), [CATEGORY] * 4, [f"{i}.png" for i in range(4)])
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    before, losses = method(images, [CATEGORY] * 4).score, []
    for _ in range(5):
        optimizer.zero_grad()
        loss = method.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert (method(images, [CATEGORY] * 4).score < before).all()
