"""Steps of a fit without a Trainer."""

from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from benchmark.execution import fitting


def descend(optimizer: Optimizer, loss: Callable[[], Tensor], steps: int) -> list[float]:
    """The loss at each of so many steps."""
    losses = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def train(method, batch, steps):
    """The losses of a method on one batch."""
    (optimizer,), _ = method.train().configure_optimizers()
    return descend(optimizer, lambda: method.loss(batch), steps)


def shorten_fits(monkeypatch):
    """Every fit of a cell sees one batch."""
    real = fitting._train

    def first_batch(method, source, device, loggers):
        method.max_epochs = 1
        first = next(iter(source.fit_loader(method.fit_data)))
        monkeypatch.setattr(source, "fit_loader", lambda wanted: DataLoader([first], batch_size=None))
        return real(method, source, device, loggers)

    monkeypatch.setattr(fitting, "_train", first_batch)
