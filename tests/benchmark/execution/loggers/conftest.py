"""W&B without a key or a home of the user's, and a stand-in for its service."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from kept import predicted_of
from wandb_stand_in import KEY, Service, wandb_service

from benchmark.execution import attempt
from benchmark.execution.loggers import reach

VARIABLES = (
    "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR",
    "MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_ALLOW_FILE_STORE",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_key(monkeypatch, tmp_path) -> Iterator[None]:
    import wandb

    for name in VARIABLES:
        monkeypatch.setenv(name, "set so that monkeypatch removes what the code sets")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()  # its settings are read anew
    yield
    wandb.teardown()


@pytest.fixture
def service(monkeypatch) -> Iterator[Callable[[str], Service]]:
    """Start a service that fails in a way, and let W&B believe in it."""
    with ExitStack() as stack:

        def start(how: str = "fine") -> Service:
            found = stack.enter_context(wandb_service(how))
            monkeypatch.setenv("WANDB_BASE_URL", found.url)
            monkeypatch.setenv("WANDB_API_KEY", KEY)
            monkeypatch.setattr(reach, "PATIENCE", 1.0)
            return found

        yield start


@pytest.fixture
def unkept(monkeypatch) -> None:
    """No cell keeps predictions."""
    real = attempt.finish
    monkeypatch.setattr(attempt, "finish", lambda loggers, record, predicted: real(loggers, record, None))


@pytest.fixture
def kept(monkeypatch) -> None:
    """Every cell keeps predictions."""
    real = attempt.finish
    monkeypatch.setattr(
        attempt, "finish", lambda loggers, record, predicted: real(loggers, record, predicted_of(record.cell))
    )
