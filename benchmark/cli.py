"""`bench`: the command line. Heavy libraries load only where a command needs them."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from benchmark.commands import captions, completion, data, export, listing, new
from benchmark.commands import show as showing
from benchmark.commands.arguments import Folder, Json, Method, Quiet, SaidOnce, Words, folder_option, named, read_folder
from benchmark.request.registry import ConfigError
from benchmark.request.version import NAME, suite_version
from datamodules.components.sample import UserError

app = typer.Typer(
    help="Compare methods that learn prompts for CLIP to find visual anomalies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(captions.app, name="captions")
app.add_typer(data.app, name="data")
app.add_typer(export.app, name="export")
app.add_typer(new.app, name="new")
USAGE, INTERRUPTED, NOT_READ = 2, 130, 1
OVERWRITE = ("never", "failed", "always")
PROGRAM = "bench"  # however it was started
COMPLETE = "_BENCH_COMPLETE"  # variable by which a shell asks what TAB offers


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {suite_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="print name and version")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command(cls=SaidOnce)
def run(
    words: Words = None,
    methods: Annotated[str | None, named("a,b: files of methods/", completion.method_list)] = None,
    datasets: Annotated[str | None, named("c,d: files of datamodules/", completion.dataset_list)] = None,
    protocols: Annotated[str | None, named("default: each method's first", completion.protocol_list)] = None,
    shots: Annotated[str | None, typer.Option(help="1,2,4: normal images per category")] = None,
    seeds: Annotated[str | None, typer.Option(help="0,1,2")] = None,
    categories: Annotated[str | None, named("default: all of each data set", completion.category_list)] = None,
    backbone: Annotated[
        str | None,
        named("file of configs/backbone, NAME/PRETRAINED, hf-hub:ORG/NAME or local-dir:PATH", completion.backbone),
    ] = None,
    preset: Annotated[str | None, named("file of configs/preset", completion.preset)] = None,
    config: Annotated[Path | None, typer.Option(help="your own YAML, or a file of sweeps/ in a results folder")] = None,
    results: Annotated[
        Path | None, folder_option("of records and tables; default results/PRESET or results/main")
    ] = None,
    overwrite: Annotated[
        str, named("never | failed | always: which recorded cells run again", completion.one_of(lambda: OVERWRITE))
    ] = "failed",
    limit: Annotated[
        int | None, typer.Option(help="test images per category; rows become invalid for a leaderboard")
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="stop at the first cell that fails")] = False,
    shard: Annotated[
        str | None, typer.Option(help="i/n: run that part of the cells, i from 0; several may share --results")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the cells and their states, run nothing")] = False,
    quiet: Quiet = False,
) -> None:
    """Run every missing cell of methods × datasets × protocols × shots × seeds, then print the leaderboard."""
    from benchmark.request import compose as requests  # noqa: PLC0415  (omegaconf)

    if overwrite not in OVERWRITE:
        raise ConfigError(f"--overwrite must be one of {', '.join(OVERWRITE)}, got {overwrite!r}.")
    axes = dict(zip(requests.AXES, (methods, datasets, protocols, categories, shots, seeds), strict=True))
    request = requests.read_request(preset, config, axes, backbone, limit, words or [])
    from benchmark.commands import run as running  # noqa: PLC0415  (torch)
    from benchmark.commands.terminal import loud  # noqa: PLC0415  (pandas)
    from benchmark.records.store import NotKept  # noqa: PLC0415  (filelock)
    from benchmark.request.sharing import read_shard  # noqa: PLC0415

    folder = results or request.default_folder
    if dry_run:
        running.dry_run(request, folder, quiet=quiet)
        return
    part = read_shard(shard) if shard else None
    argv = [PROGRAM, *sys.argv[1:]]
    console = Console(quiet=quiet)
    try:
        ended = running.run(request, folder, running.Way(argv, overwrite, fail_fast, part, console, console))
    except NotKept as error:
        loud(console).print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(running.FAILED) from error
    raise typer.Exit(ended.code)


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(help="methods | datasets | protocols | backbones | presets", autocompletion=completion.kind),
    ],
    as_json: Json = False,
) -> None:
    """List what can be asked for."""
    listing.print_list(what, Console(), as_json=as_json)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="method | dataset | preset | synthesis", autocompletion=completion.shown)],
    name: Annotated[
        str | None,
        typer.Argument(
            help="a name of `bench list`, or NAME=PATH, your own images; of synthesis, a data set",
            autocompletion=completion.shown_name,
        ),
    ] = None,
    words: Words = None,
    categories: Annotated[str | None, named("synthesis: default the first eight", completion.category_list)] = None,
    output: Annotated[Path | None, typer.Option(help="synthesis: default results/report/synthesis.png")] = None,
    textures: Annotated[str | None, typer.Option(help="synthesis: a folder of images, such as DTD")] = None,
    as_json: Json = False,
) -> None:
    """Print the resolved settings of a method, data set or preset, or show synthetic anomalies of a data set."""
    if what == "synthesis":
        from benchmark.commands import synthesis_sheet  # noqa: PLC0415  (torch)
        from benchmark.request import compose as requests  # noqa: PLC0415  (omegaconf)

        sheet = output or Path("results/report/synthesis.png")
        chosen = requests.split("categories", categories) if categories else None
        written = synthesis_sheet.write_sheet(name or "procedural", words or [], chosen, sheet, textures)
        print(json.dumps({"file": str(written)}) if as_json else written)
        return
    if categories or output or textures:
        raise ConfigError(f"--categories, --output and --textures belong to `bench show synthesis`, not to {what!r}.")
    showing.print_settings(what, name, words or [], as_json=as_json)


@app.command()
def status(folder: Folder, as_json: Json = False) -> None:
    """Say what a results folder holds and what its sweeps still miss."""
    from benchmark.commands import status as standing  # noqa: PLC0415  (filelock)

    raise typer.Exit(standing.print_status(folder, as_json=as_json))


@app.command()
def leaderboard(
    folder: Folder,
    show_all: Annotated[bool, typer.Option("--all", help="also print what is superseded")] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="md | csv | json | latex | text: print this alone, write nothing",
            autocompletion=completion.one_of(lambda: ("md", "csv", "json", "latex", "text")),
        ),
    ] = None,
    metrics: Annotated[
        str | None, named("a,b: such as image_AUROC; default all that are there", completion.metric_list)
    ] = None,
    by_category: Annotated[bool, typer.Option("--by-category", help="a table of categories per comparison")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="all columns, and what each row costs")] = False,
    pictures: Annotated[
        bool, typer.Option(help="images of the data sets in leaderboard.html; without, it may be published")
    ] = True,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rebuild the tables of a results folder from its records and print the leaderboard."""
    from benchmark.commands import report as reporting  # noqa: PLC0415  (pandas)

    if as_json and form not in (None, "json"):
        raise ConfigError(f"--json and --format {form} contradict each other: keep one of the two.")
    form = "json" if as_json else form
    if form is None and not metrics and not by_category:
        reporting.rebuild(folder, Console(quiet=quiet), show_all, wide=wide, pictures=pictures)
        return
    if not pictures:
        raise ConfigError(
            "--no-pictures is for leaderboard.html; --format, --metrics and --by-category do not write it."
        )
    if show_all:
        raise ConfigError(
            "--all shows the whole leaderboard; --format, --json, --metrics and --by-category choose from it."
        )
    from benchmark.commands import leaderboard as leaderboards  # noqa: PLC0415  (pandas)

    chosen = leaderboards.read_form(form or "text", metrics)
    leaderboards.print_format(folder, *chosen, by_category=by_category, wide=wide)


@app.command()
def rescore(
    folder: Folder,
    resolution: Annotated[int | None, typer.Option(help="side in px at which maps are measured")] = None,
    smoothing: Annotated[str | None, typer.Option(help="none, or px at that resolution")] = None,
    image_score: Annotated[str, typer.Option(help="own | max | top1 | scaled")] = "own",
    aupro: Annotated[str, typer.Option(help="exact | 200steps, which adds the PRO of published code")] = "exact",
    regions: Annotated[str | None, typer.Option(help="resized | native: where AUPRO finds regions")] = None,
    output: Annotated[Path | None, folder_option("of the tables; default FOLDER/rescored")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure kept predictions under other choices, without a GPU; with none, show what each single one changes."""
    from benchmark.commands import rescore as rescoring  # noqa: PLC0415  (torch)

    choice = rescoring.read_choice(resolution, smoothing, image_score, aupro, regions)
    raise typer.Exit(rescoring.rescore(folder, choice, output, Console(quiet=quiet)))


@app.command(cls=SaidOnce)
def predict(
    where: Annotated[str, typer.Option("--input", help="an image, a folder at any depth, or a glob in quotes")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="any key of `bench show`")] = None,
    method: Annotated[str | None, typer.Option(help="a name of `bench list methods`, fitted now")] = None,
    record: Annotated[
        str | None, typer.Option(help="a fitted cell: DIR/cells/ID, its attempt-N.json, or ID with --results")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="the results folder of a --record that is an ID")] = None,
    shots: Annotated[str | None, typer.Option(help="normal images: a folder or a glob")] = None,
    object_: Annotated[
        str | None, typer.Option("--object", help="what the images show; of a record, one of its categories")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="as of bench run, default embedded; of a record, where its weights lie now")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="of a fit; default 0")] = None,
    false_alarm: Annotated[
        float | None, typer.Option(help="share of normal images that may exceed the threshold, such as 0.01")
    ] = None,
    output: Annotated[Path, typer.Option(help="folder of the files")] = Path("predictions"),
    device: Annotated[str, typer.Option(help="auto | cpu | gpu | mps")] = "auto",
) -> None:
    """Score images of your own by a method that is fitted on a few normal ones: a table, maps and heat maps."""
    from benchmark.commands import predict as predicting  # noqa: PLC0415  (torch)

    asked = predicting.Asked(method, record, results, shots, object_, backbone, seed, device, words or [])
    argv = [Path(sys.argv[0]).name, *sys.argv[1:]]
    raise typer.Exit(predicting.predict(asked, where, output, false_alarm, argv))


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="a results folder; with --results the label of a method")],
    b: Annotated[str, typer.Argument(metavar="B", help="the other one")],
    results: Annotated[Path | None, folder_option("a results folder that holds both methods")] = None,
    output: Annotated[Path | None, typer.Option(help="a CSV file for all metrics and categories")] = None,
) -> None:
    """Say what changed from A to B and what it did to each metric: paired differences with intervals, by category."""
    from benchmark.commands import compare as comparing  # noqa: PLC0415  (pandas)

    if not results:
        a, b = str(read_folder(a)), str(read_folder(b))
    comparing.print_comparison(a, b, results, output)


@app.command()
def published(
    method: Annotated[str | None, named("of the suite, or a name that sources use", completion.method)] = None,
    dataset: Annotated[str | None, named("a data set", completion.dataset)] = None,
    metric: Annotated[str | None, named("such as image_AUROC", completion.metric_list)] = None,
    results: Annotated[Path | None, folder_option("a results folder, whose rows then stand beside")] = None,
) -> None:
    """Print what papers and repositories claim, with sources; with --results, what was measured beside it."""
    from benchmark.commands import published as publishing  # noqa: PLC0415  (pandas)

    if results:
        if method or dataset or metric:
            raise ConfigError("--results shows a whole folder; --method, --dataset and --metric choose figures.")
        publishing.print_beside(results, Console())
    else:
        publishing.print_figures(method, dataset, metric, Console())


@app.command()
def recertify(
    folder: Folder,
    cells: Annotated[int, typer.Option(help="stale cells of each method that are measured again", min=1)] = 1,
    quiet: Quiet = False,
) -> None:
    """Measure some cells again whose code alone changed; if all metrics are equal, adopt the others as they are."""
    from benchmark.commands import recertify as recertifying  # noqa: PLC0415  (torch)

    raise typer.Exit(recertifying.recertify(folder, cells, [PROGRAM, *sys.argv[1:]], Console(quiet=quiet)))


@app.command()
def check(
    method: Method,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[method.KEY=VALUE]...", help="settings: a variant of it")
    ] = None,
) -> None:
    """Check the promises of a method, a line each; exit code 1 if one is broken."""
    from benchmark.commands import check as checking  # noqa: PLC0415  (torch)

    raise typer.Exit(checking.check(method, words or []))


@app.command()
def pretrain(
    what: Annotated[str, typer.Argument(help="embedded")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="steps=…, text.lr=…")] = None,
    *,
    teacher: Annotated[str, typer.Option(help="local-dir:PATH or timm:NAME, an image tower trained on photographs")],
    seed: Annotated[int, typer.Option(help="of the text tower, crops and captions")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="of features, rendered images and checkpoints; default: below the cache")
    ] = None,
    photographs: Annotated[Path, typer.Option(help="root below which packages of photographs lie")] = Path("/"),
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, mps")] = "auto",
) -> None:
    """Make the weights of the embedded CLIP from nothing; the same command goes on after a stop."""
    from benchmark.execution.build import resolve_device  # noqa: PLC0415  (torch)
    from benchmark.pretraining import run as pretraining  # noqa: PLC0415  (torch)

    pretraining.run(what, teacher, photographs, seed, folder, resolve_device(accelerator), words or [])


@app.command()
def doctor(results: Annotated[Path, folder_option("where results would go")] = Path("results")) -> None:
    """Check versions, devices, weights, data roots and writability, and say what to do next."""
    from benchmark.commands import doctor as doctors  # noqa: PLC0415  (huggingface_hub)

    raise typer.Exit(doctors.examine(results, Console()))


def main() -> None:
    """Run `bench`; an error that the user can mend is one sentence and exit code 2.

    What reads the output may stop doing so at any time, as `head` does: then the rest is not said. While a shell asks
    what TAB offers, no error is shown.
    """
    if COMPLETE in os.environ:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  (until the process ends)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name of lone surrogates stops no sweep
    try:
        try:
            app(prog_name=PROGRAM)
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USAGE) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python puts what it still holds
        raise SystemExit(NOT_READ) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
