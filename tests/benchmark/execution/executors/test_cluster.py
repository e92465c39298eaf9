"""The driver of a cluster against an imagined Ray, of which a node goes while jobs are under way."""

import pickle
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.execution.executors import cluster
from benchmark.records.store import Record
from benchmark.request.groups import ExecutorSettings, RaySettings, TrainerSettings
from benchmark.request.registry import ConfigError

CELL = SimpleNamespace(where=SimpleNamespace(trainer=TrainerSettings()), id="c")


@dataclass(eq=False)
class Actor:
    """A process that waits for a place, or has one."""

    ray: Any
    calls: list[Any] = field(default_factory=list)

    @property
    def run(self):
        return SimpleNamespace(remote=self._call)

    def _call(self, job, threads):
        self.calls.append(reference := object())
        self.ray.waiting[reference] = self
        return reference


class ImaginedRay:
    """So many nodes of one core; a process takes a place until it is killed, and those without one wait."""

    exceptions = SimpleNamespace(OutOfMemoryError=MemoryError, RayTaskError=KeyError, RayError=OSError)

    def __init__(self, places):
        self.places, self.actors, self.waiting = places, [], {}

    def nodes(self):
        return [{"Resources": {"CPU": 1}, "Alive": True}] * self.places

    def remote(self, cls):
        def make():
            self.actors.append(actor := Actor(self))
            return actor

        return SimpleNamespace(options=lambda **its: SimpleNamespace(remote=make))

    def wait(self, references, num_returns, timeout):
        placed = self.actors[: self.places]
        done = [reference for reference in references if self.waiting[reference] in placed]
        if not done:
            pytest.fail("what waits will never have a place")
        return done[:1], []

    def get(self, reference):
        record = Record("c", 1, "ok", "s", [], CELL, "")
        return pickle.dumps(record)

    def kill(self, actor):
        self.actors.remove(actor)

    def shutdown(self):
        assert not self.actors or self.waiting


class Cells:
    """So many jobs."""

    def __init__(self, count):
        self.left = count

    def take(self, near=None):
        if not self.left:
            return None
        self.left -= 1
        return SimpleNamespace(cell=CELL, logs=None)


@pytest.fixture
def ray(monkeypatch):
    monkeypatch.setattr(cluster, "LOOK", 0.0)
    monkeypatch.setattr(cluster, "replace", lambda its, **values: its)
    monkeypatch.setattr(cluster.pickle, "dumps", lambda its: b"")
    monkeypatch.setattr(cluster.pickle, "loads", lambda its: Record("c", 1, "ok", "s", [], CELL, ""))
    monkeypatch.setattr(cluster, "_connect", lambda settings: ray)
    ray = ImaginedRay(3)
    return ray


def test_idle_processes_give_way_to_what_waits_for_the_place_of_a_node_that_went(ray):
    driver = cluster.Cluster(ExecutorSettings(name="ray", cores=1), RaySettings(), TrainerSettings(accelerator="cpu"))
    ended = driver.run(Cells(5))
    next(ended)
    ray.places = 2  # of three processes one has no place any more
    assert sum(1 for _ in ended) == 4


def test_a_process_is_kept_for_the_next_job(ray):
    driver = cluster.Cluster(ExecutorSettings(name="ray", cores=1), RaySettings(), TrainerSettings(accelerator="cpu"))
    assert sum(1 for _ in driver.run(Cells(9))) == 9
    assert len({id(actor) for actor in ray.waiting.values()}) == 3


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nowhere.invalid:6379", "nobody answers there"),
        ("127.0.0.1:1", "nobody answers there"),
        ("127.0.0.1:99999", "nobody answers there"),
        ("head", 'must be "auto" or host:port'),
        (":6379", 'must be "auto" or host:port'),
    ],
)
def test_an_address_where_nobody_listens_is_refused_before_ray_waits_for_it(address, why, monkeypatch):
    pytest.importorskip("ray")
    import ray

    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try again for hours"))
    with pytest.raises(ConfigError, match=f"ray.address={address}: .*{why}"):
        cluster._connect(RaySettings(address=address))
