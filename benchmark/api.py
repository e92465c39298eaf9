"""`benchmark.run` and `benchmark.leaderboard`: the suite from a script or a notebook."""

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

from benchmark.commands import leaderboard as leaderboards
from benchmark.commands import run as running
from benchmark.commands.status import open_store
from benchmark.records.leaderboard import INNER, long_table, wide_table
from benchmark.records.store import Record, Store
from benchmark.request.cell import Cell
from benchmark.request.compose import AXES, read_request
from benchmark.request.inputs import look_again
from benchmark.request.registry import ConfigError, unknown
from benchmark.request.sharing import read_shard
from datamodules.components.sample import UserError

INTERRUPTED = 130
Values = str | int | Iterable[str | int]  # "a,b" as on the command line, one value, or several
Folder = str | PathLike[str]


class Failed(NamedTuple):
    """A requested cell without a number."""

    cell: str  # its id
    status: str  # failed, interrupted, or missing
    reason: str  # type and message of the error
    record: str  # path of its record, which holds the traceback; "" of one that is missing


class CellsFailed(UserError):
    """None of the requested cells has a number, or the first that failed was to stop all; `failed` tells of each."""

    def __init__(self, failed: Sequence[Failed]) -> None:
        super().__init__(_told(failed))
        self.failed = list(failed)


def run(
    methods: Values | None = None,
    datasets: Values | None = None,
    *,
    protocols: Values | None = None,
    categories: Values | None = None,
    shots: Values | None = None,
    seeds: Values | None = None,
    backbone: str | None = None,
    preset: str | None = None,
    config: Folder | None = None,
    settings: Mapping[str, Any] | Iterable[str] = (),
    results: Folder | None = None,
    overwrite: str = "failed",
    limit: int | None = None,
    fail_fast: bool = False,
    shard: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run every missing cell of methods × datasets × protocols × shots × seeds, as `bench run` does.

    What is recorded in the results folder is not run again, so the same call goes on after a stop, and a second call
    reads; methods and data sets that were written or installed meanwhile are found. Records, tables and
    `leaderboard.html` are those of `bench run`, which may share the folder.

    Args:
        methods: names of `bench list methods`: "winclip", "winclip,coop" or ["winclip", "coop"].
        datasets: likewise; also "NAME=PATH", a folder of your own images.
        protocols: default: each method's first.
        categories: default: all of each data set.
        shots: numbers of normal images per category, such as 1 or [1, 2, 4].
        seeds: such as 0 or range(3).
        backbone: a file of configs/backbone, NAME/PRETRAINED, "hf-hub:ORG/NAME" or "local-dir:PATH".
        preset: a file of configs/preset.
        config: your own YAML.
        settings: any key of `bench show`: {"method.coop.lr": 1e-3}, {"trainer": {"batch_size": 8}}, or words as of the
            command line, ["method.coop.lr=1e-3"].
        results: folder of records and tables; default results/PRESET or results/main below the working directory.
        overwrite: "never", "failed" or "always": which recorded cells run again.
        limit: test images per category; rows become invalid for a leaderboard.
        fail_fast: stop at the first cell that fails.
        shard: "i/n": run that part of the cells, i from 0.
        progress: tell on stderr how far it is; False prints nothing.

    Returns:
        The leaderboard of the requested cells alone, a row for each method, data set, protocol and number of shots,
        metrics as fractions; results/README.md explains the columns. `attrs["results"]` is the results folder,
        `attrs["failed"]` a list of `Failed`, empty if all went well. `leaderboard` reads the whole folder.

    Raises:
        UserError: the request or the data are wrong, and nothing has run; or a record cannot be written.
        CellsFailed: no requested cell has a number, or one failed and `fail_fast` is set. Where only some failed, a
            RuntimeWarning names them, and their rows say "partial" in `status`.
        KeyboardInterrupt: SIGINT or SIGTERM; what had finished is on disk.
    """
    look_again()
    axes = dict(zip(AXES, map(_text, (methods, datasets, protocols, categories, shots, seeds)), strict=True))
    words = _words(settings)
    if overwrite not in running.AGAIN:
        raise unknown("overwrite", overwrite, running.AGAIN)
    request = read_request(preset, Path(config) if config else None, axes, backbone, limit, words)
    folder = Path(results) if results else request.default_folder
    options: dict[str, Any] = {**axes, "backbone": backbone, "preset": preset, "config": config, "results": results}
    options |= {"overwrite": None if overwrite == "failed" else overwrite, "limit": limit, "shard": shard}
    said = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    argv = ["bench", "run", *said, *(["--fail-fast"] if fail_fast else []), *words]
    console = Console(stderr=True, force_jupyter=False) if progress else Console(file=StringIO())
    way = running.Way(
        argv, overwrite, fail_fast, read_shard(shard) if shard else None, console, Console(file=StringIO())
    )
    with _program_hidden(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm in a notebook, where no bar of it is shown
        ended = running.run(request, folder, way)
    if ended.code == INTERRUPTED:
        raise KeyboardInterrupt
    return _table(ended, folder, fail_fast)


def leaderboard(
    folder: Folder, *, metrics: Values | None = None, by_category: bool = False, costs: bool = False
) -> pd.DataFrame:
    """The leaderboard of a results folder, from its records alone; writes nothing.

    Args:
        folder: that `run` or `bench run` has made.
        metrics: such as "image_AUROC" or ["image_AUROC", "pixel_AUPRO"]; default: all.
        by_category: a row for each category instead of their mean.
        costs: what each row costs, in columns as those of `cost.csv`; not by category.

    Returns:
        A row for each method, data set, protocol and number of shots, metrics as fractions; results/README.md
        explains the columns.

    Raises:
        UserError: the folder holds no records, or a metric is unknown.
    """
    _, chosen = leaderboards.read_form("csv", _text(metrics))
    return leaderboards.data(open_store(Path(folder)), chosen, by_category=by_category, wide=costs).reset_index(
        drop=True
    )


def _text(values: Any) -> str | None:
    """Values as the command line has them."""
    if values is None or isinstance(values, str):
        return values
    return ",".join(map(_text_of_one, values if isinstance(values, Iterable) else [values]))


def _text_of_one(value: Any) -> str:
    text = str(value)
    if "," in text:
        raise ConfigError(f"a value of a list must hold no comma, got {text!r}.")
    return text


def _words(settings: Mapping[str, Any] | Iterable[str]) -> list[str]:
    """Settings as `key=value` words; a mapping may be of dotted keys, of groups, or both."""
    if isinstance(settings, str):
        raise ConfigError(f"settings must be a mapping or a list of key=value words, got the text {settings!r}.")
    return list(_flat(settings)) if isinstance(settings, Mapping) else [*settings]


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in settings.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield f"{key}={_json(key, value)}"


def _json(key: str, value: Any) -> str:
    """A value as JSON, which is YAML; of an array what it lists."""
    listed = value.tolist() if hasattr(value, "tolist") else value
    plain = list(listed) if isinstance(listed, range | set | frozenset) else listed
    try:
        return json.dumps(plain, default=fspath, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{key} must be a number, a text, a path, a bool, None or a list of such, got {value!r}."
        ) from error


@contextmanager
def _program_hidden() -> Iterator[None]:
    """Keep processes that are started from running the caller's script again, which may have no `__main__` guard."""
    main = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


def _table(ended: running.Ended, folder: Path, fail_fast: bool) -> pd.DataFrame:
    records = [ended.store.current(cell.id) for cell in ended.cells]
    failed = list(_failed(ended.cells, records, ended.store))
    if len(failed) == len(records) or (failed and fail_fast):
        raise CellsFailed(failed)
    if failed:
        warnings.warn(_told(failed), RuntimeWarning, stacklevel=3)
    table = wide_table(long_table(record for record in records if record)).drop(columns=list(INNER))
    table.attrs = {"results": str(folder), "failed": failed}
    return table


def _failed(cells: Sequence[Cell], records: Sequence[Record | None], store: Store) -> Iterator[Failed]:
    for cell, record in zip(cells, records, strict=True):
        if record is None:
            yield Failed(cell.id, "missing", "it was not run", "")
        elif record.status != "ok":
            why = f"{record.error.get('type')}: {record.error.get('message')}"
            yield Failed(cell.id, record.status, " ".join(why.split()), str(store.path(record)))


def _told(failed: Sequence[Failed]) -> str:
    lines = [f"{its.cell}: {its.reason} {its.record}".rstrip() for its in failed]
    return "\n".join([f"{len(failed)} requested cells have no number:", *lines])
