"""Steps of a fit without a Trainer."""


def train(method, batch, steps):
    """The loss of each of so many steps on one batch."""
    (optimizer,), _ = method.train().configure_optimizers()
    losses = []
    for _ in range(steps):
        loss = method.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
