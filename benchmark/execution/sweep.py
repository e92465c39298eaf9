"""Drives a sweep: hands cells to an executor, and alone writes records and tables."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from benchmark.execution import stopping
from benchmark.execution.attempt import Job
from benchmark.execution.content import SMALLEST
from benchmark.execution.data import DataSpec, auxiliary, open_data, target
from benchmark.execution.executors.choice import open_executor
from benchmark.execution.heart import Heart, Show
from benchmark.execution.schedule import Schedule
from benchmark.records import claims
from benchmark.records.leaderboard import LeaderboardTables, write_tables
from benchmark.records.store import DIED, Record, Store
from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.groups import ExecutorSettings, RaySettings
from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import DataError

EVERY = 30.0  # seconds between two rewritings of the tables, at least
SHARE = 0.01  # of the time that rewriting them may take


class Interrupted(Exception):
    """The user stopped the sweep; what had finished is on disk."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep needs besides cells."""

    name: str
    argv: Sequence[str]
    store: Store
    executor: ExecutorSettings = field(default_factory=ExecutorSettings)
    ray: RaySettings = field(default_factory=RaySettings)
    fail_fast: bool = False


def verify_data(cells: Sequence[Cell]) -> list[str]:
    """Look at all files of all cells before anything runs; DataError names the first wrong one.

    Returns:
        what cannot be measured, in words, of data sets whose numbers nobody has published.
    """
    notes: dict[str, None] = {}
    largest: dict[tuple[str, tuple[str, ...]], Cell] = {}
    for cell in cells:
        key = (cell.dataset, cell.seen)
        if key not in largest or cell.shots > largest[key].shots:
            largest[key] = cell
    for cell in largest.values():
        data = open_data(target(cell, cell.seen), SMALLEST)
        data.verify()
        if not registry.dataset(cell.dataset).counts:
            notes |= dict.fromkeys(_gaps(cell.dataset, data))
    for spec in {spec.dataset: spec for spec in map(auxiliary, cells) if spec}.values():
        _verify_auxiliary(spec)
    return [*notes]


def _gaps(name: str, data: AnomalyDataModule) -> Iterator[str]:
    for category in data.chosen:
        labels = {sample.anomalous for sample in data.tests(category)}
        for label, word in ((False, "normal"), (True, "anomalous")):
            if label not in labels:
                yield f"{name}/{category} has no {word} test images: image metrics are undefined, a dash in tables"
        if not data.masks_known(category):
            yield f"{name}/{category} has no masks: pixel metrics are undefined, a dash in tables"


def _verify_auxiliary(spec: DataSpec) -> None:
    data = open_data(spec, SMALLEST)
    data.verify()
    if not any(s.anomalous for c in data.chosen if data.masks_known(c) for s in data.tests(c)):
        raise DataError(f"{spec.dataset} cannot be an auxiliary data set: it has no anomalous image with a mask.")


def run_sweep(
    sweep: Sweep, cells: Sequence[Cell], report: Callable[[Cell, Record], None], show: Show
) -> LeaderboardTables:
    """Run `cells`, keep a record of each attempt, and rewrite the tables now and then; return them.

    Args:
        sweep: what it is part of.
        cells: to be run.
        report: called with every record.
        show: called about once a second with what is running.

    Raises:
        StoreError: a record cannot be written; the sweep stops, since it could keep nothing more.
        Interrupted: SIGINT or SIGTERM; the cells under way are recorded as interrupted.
    """
    tables = Tables(sweep.store)
    log = sweep.store.folder / "sweeps" / f"{sweep.name}.log"
    try:
        with stopping.stoppable(), Heart(show, log) as heart:
            for cell, record in _records(sweep, cells, heart):
                tables.touch()
                report(cell, record)
                if record.status == "failed" and sweep.fail_fast:
                    break
            if stopping.asked():
                raise Interrupted
    finally:
        made = tables.write()
    return made


def _records(sweep: Sweep, cells: Sequence[Cell], heart: Heart) -> Iterator[tuple[Cell, Record]]:
    """The record of every attempt, once it is on disk."""
    executor = open_executor(sweep.executor, sweep.ray, cells[0].where.trainer)
    schedule = Schedule(cells, lambda cell: _begin(sweep, cell, heart), shared_fits=executor.slots > 1)
    deaths: Counter[str] = Counter()
    with closing(executor.run(schedule)) as finished, heart.giving_back():
        for job, record in finished:
            died = record.error.get("type") == DIED and deaths[job.cell.id] < sweep.executor.retries
            deaths[job.cell.id] += died
            record = record if job.fit_alone else sweep.store.save(record)
            heart.remove(job)
            if not job.fit_alone:
                if died:
                    schedule.put_back(job.cell)
                yield job.cell, record
            elif died:
                schedule.make_again(job)
            elif record.status != "interrupted":
                for cell in schedule.made(job, well=record.status == "ok"):
                    yield cell, sweep.store.save(_shared_failure(sweep, cell, record))


def _begin(sweep: Sweep, cell: Cell, heart: Heart) -> Job | None:
    """Claim the next attempt at a cell; None where another process is at it."""
    folder = sweep.store.folder
    if any(claims.holder(path) for path in claims.claims_of(folder, cell.id)):
        return None
    job = next_job(sweep, cell)
    return job if heart.add(job) else None


def next_job(sweep: Sweep, cell: Cell) -> Job:
    """The next attempt at a cell."""
    number, logs = sweep.store.attempt_folder(cell.id)
    last = sweep.store.last(cell.id)
    fell = last is not None and last.error.get("type") == DIED
    return Job(cell, number, logs, sweep.store.folder, sweep.name, tuple(sweep.argv), fell=fell)


def _shared_failure(sweep: Sweep, cell: Cell, fit: Record) -> Record:
    """The record of a cell whose fit, shared with others, has failed."""
    number, _ = sweep.store.attempt_folder(cell.id)
    told = {**fit.error, "message": f"the fit that it shares with others failed: {fit.error['message']}"}
    return replace(fit, cell=cell, cell_id=cell.id, attempt=number, status="failed", error=told, data={})


class Tables:
    """The tables of a results folder while it grows: rewritten so seldom that it takes no part of a sweep's time."""

    def __init__(self, store: Store) -> None:
        self.store, self.due = store, time.monotonic() + EVERY

    def touch(self) -> None:
        """Rewrite the tables if that is due."""
        if time.monotonic() >= self.due:
            self.write()

    def write(self) -> LeaderboardTables:
        """Rewrite the tables."""
        start = time.monotonic()
        made = write_tables(self.store.folder, self.store.all_current())
        now = time.monotonic()
        self.due = now + max(EVERY, (now - start) / SHARE)
        return made
