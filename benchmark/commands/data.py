"""`bench data`: what there is of each data set, how to get it, and whether what lies on disk is what was published."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

from benchmark.commands import completion
from benchmark.commands.columns import print_rows
from benchmark.request import registry
from benchmark.request.merging import Layer
from benchmark.request.registry import ConfigError, DatasetFacts, data_root
from benchmark.request.settings import compose, parse_words
from datamodules.components.roots import DATA_VARIABLE, data_folder
from datamodules.components.sample import DataError

app = typer.Typer(help="List, fetch, verify and export data sets.", no_args_is_help=True)
Name = Annotated[
    str, typer.Argument(metavar="DATASET", help="a name of `bench list datasets`", autocompletion=completion.dataset)
]
Words = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings, as dataset.root=/my/images")
]
Root = Annotated[Path | None, typer.Option(help="its folder")]
PROVEN, DIFFERENT = 0, 1


@app.command("list")
def list_() -> None:
    """Say of each data set whether it is here, how large it is, and how to get it."""
    rows = []
    for name in registry.names("dataset"):
        if registry.why_broken("dataset", name):
            continue
        facts = registry.dataset(name)
        setting = facts.settings.get("variant")
        for variant in facts.counts or (setting.choices if setting else (facts.variant,)):
            counts = facts.counts.get(variant, {})
            sums = [str(sum(column)) for column in zip(*counts.values(), strict=True)] if counts else ["?"] * 3
            if variant in facts.unconfirmed:
                sums = [f"{number} (recalled)" for number in sums]
            rows.append((name, variant, *sums, _place(facts), _way(facts)))
    print_rows(("data set", "variant", "train", "normal", "anomalous", "here", "to get"), rows, Console())


@app.command()
def prepare(
    name: Name,
    words: Words = None,
    root: Annotated[Path | None, typer.Option(help=f"where it goes; default ${DATA_VARIABLE}/NAME")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="the licence is accepted")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="keep the archive after it is unpacked")] = False,
) -> None:
    """Fetch and unpack a data set where source and licence allow that; else say what to fetch and where to put it."""
    facts = registry.dataset(name)
    print(f"{name}: {facts.summary}\nlicence: {facts.licence}\ncite: {facts.citation or facts.source}")
    if not facts.needs_root:
        _open(facts, words or [], None)
        print(f"{name} is ready: nothing has to be fetched.")
        return
    place = root or _default_root(facts)
    if place.is_dir() and any(place.iterdir()):
        _describe(facts, words or [], place)
        return
    if not facts.archives:
        raise DataError(
            f"{name} cannot be fetched without you. {facts.obtain or f'Fetch it from {facts.source}.'} "
            f"<root> is {place} (or dataset.{name}.root); expected there: {_layout(facts)}."
        )
    if not yes:
        raise ConfigError(f"`bench data prepare {name} --yes` says that you accept the licence: {facts.licence}.")
    _fetch(facts, place, keep=keep)
    _describe(facts, words or [], place)


@app.command()
def verify(
    name: Name, words: Words = None, root: Annotated[Path | None, typer.Option(help="its folder")] = None
) -> None:
    """Prove a data set on disk: numbers as published, every image read, masks that fit, duplicates by content."""
    from datamodules.components import verification  # noqa: PLC0415  (torch)

    facts = registry.dataset(name)
    data, variant = _open(facts, words or [], root)
    rows = []
    confirmed = variant not in facts.unconfirmed
    findings = list(verification.verify(data, facts.counts.get(variant, {}), confirmed=confirmed))
    for category in data.chosen:
        try:
            rows.append((category, *map(str, verification.count(data, category))))
        except DataError:
            rows.append((category, *"????"))
    print_rows(("category", "train", "normal", "anomalous", "masks"), rows, Console())
    if absent := [category for category in facts.categories if category not in data.chosen]:
        print(f"note  not there: {', '.join(absent)}")
    for finding in findings:
        mark = "WRONG" if finding.wrong else "note "
        print(f"{mark} {finding.category}: {finding.text}")
    wrong = sum(finding.wrong for finding in findings)
    against = "the published numbers" if facts.counts.get(variant) else "no published numbers, which are not known"
    print(f"{name} ({variant}) at {data.root}: {f'{wrong} faults' if wrong else 'proven'}, against {against}")
    raise typer.Exit(DIFFERENT if wrong else PROVEN)


@app.command()
def export(
    name: Name,
    words: Words = None,
    root: Root = None,
    form: Annotated[str, typer.Option("--format", help="meta | folder")] = "meta",
    output: Annotated[Path | None, typer.Option(help="of folder: a new folder; of meta: default the root")] = None,
) -> None:
    """Write a data set as other code reads it: AnomalyCLIP's meta.json, or links in anomalib's Folder layout."""
    from datamodules.components.interchange import export_folder, write_meta  # noqa: PLC0415  (torch)

    data, _ = _open(registry.dataset(name), words or [], root)
    if form == "meta":
        print(write_meta(data, output or data.root))
    elif form == "folder" and output:
        print(export_folder(data, output))
    else:
        raise ConfigError(f"--format must be meta, or folder with an --output; got {form!r} and {output}.")


def _open(facts: DatasetFacts, words: Sequence[str], root: Path | None) -> tuple[Any, str]:
    """The datamodule of all categories, and its variant."""
    from datamodules.components.base import AnomalyDataModule  # noqa: PLC0415  (torch)

    asked = Layer("", {"sweep": {"datasets": [facts.name]}})
    values = dict(compose([asked, parse_words(words)])["dataset"][facts.name])
    place = data_root(facts, str(root) if root else values.pop("root"))
    values.pop("root", None)
    cls = registry.load(facts, AnomalyDataModule)
    config = cls.Config(**values)
    categories = facts.categories or cls.find_categories(place, config)
    data = cls(place, _there(facts, place, categories), image_size=8, config=config)
    data.prepare_data()
    return data, facts.variant_of(values)


def _there(facts: DatasetFacts, place: Path | None, categories: Sequence[str]) -> Sequence[str]:
    """The categories of which a folder is there, where each has one: a part of a set may be verified too."""
    found = [name for name in categories if place and (place / name).is_dir()]
    return found if len(categories) > 1 and found else categories


def _describe(facts: DatasetFacts, words: Sequence[str], place: Path) -> None:
    data, _ = _open(facts, words, place)
    for line in data.describe_use().lines():
        print(line)
    print(f"{facts.name} is at {data.root}; `bench data verify {facts.name}` proves it.")


def _fetch(facts: DatasetFacts, place: Path, *, keep: bool) -> None:
    from datamodules.components.download import fetch  # noqa: PLC0415
    from datamodules.components.unpacking import unpack  # noqa: PLC0415

    for archive in facts.archives:
        with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as progress:
            task = progress.add_task(archive["name"], total=None)
            urls: Iterable[str] = archive["urls"]
            file = fetch(
                archive["name"],
                urls,
                archive["sha256"],
                place.parent,
                partial(_show, progress, task),
            )
        unpack(file, place)
        if not keep:
            file.unlink()


def _show(progress: Progress, task: TaskID, there: int, total: int | None) -> None:
    progress.update(task, completed=there, total=total)


def _default_root(facts: DatasetFacts) -> Path:
    base = data_folder()
    if base is None:
        raise DataError(f"no place for {facts.name}: give --root, or set {DATA_VARIABLE} to a folder for data sets.")
    return base / facts.folder_name


def _layout(facts: DatasetFacts) -> str:
    from datamodules.components.base import AnomalyDataModule  # noqa: PLC0415  (torch)

    return str(registry.load(facts, AnomalyDataModule).layout)


def _place(facts: DatasetFacts) -> str:
    try:
        return str(data_root(facts, None) or "made or installed here")
    except DataError:
        return "no"


def _way(facts: DatasetFacts) -> str:
    if not facts.needs_root:
        return facts.source if facts.source.startswith("pip ") else "nothing to fetch"
    return f"bench data prepare {facts.name} --yes" if facts.archives else "by hand: bench data prepare tells"
