"""`bench captions`: check, show and write the captions that FineGrainedAD prompts with."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmark.commands import caption_form as captioning
from benchmark.request.registry import ConfigError, unknown
from methods.components.captions.lookup import (
    CONTEXT_LENGTH,
    CaptionSet,
    check_captions,
    check_lengths,
    read_captions,
    shipped_sets,
)
from methods.components.states import anomalous_states

app = typer.Typer(help="Check, show and write the captions of normal images.", no_args_is_help=True)
Source = Annotated[str, typer.Argument(metavar="SET", help="a data set's name, or a YAML file of your own")]


@app.command()
def lint(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[SET]...", help="default: all shipped ones")] = None,
) -> None:
    """Check sets of captions against every rule, the length of their prompts included."""
    for source in sources or shipped_sets():
        captions = read_captions(source)
        parts = sum(len(record.components) for record in captions.records.values())
        print(
            f"{source}: captions {len(captions.records)}, components {parts}, "
            f"longest prompt {_longest(captions)} of {CONTEXT_LENGTH} tokens"
        )


@app.command()
def show(
    source: Source,
    category: Annotated[str | None, typer.Argument(help="default: a table of all")] = None,
) -> None:
    """Print the captions of a set, or all that is said of one category."""
    captions = read_captions(source)
    if category is None:
        _print_table(captions)
        return
    if category not in captions.records:
        raise unknown(f"category of {source}", category, captions.records)
    record = captions.records[category]
    fields = {**record._asdict(), "components": [part._asdict() for part in record.components]}
    print(captioning.write_yaml({category: fields}), end="")


@app.command()
def new(
    form: Annotated[Path, typer.Argument(help="CATEGORY.yaml; if it is absent, the form is written")],
    captioner: Annotated[str | None, typer.Option(help="MODULE:FUNCTION that fills in the form from --image")] = None,
    image: Annotated[Path | None, typer.Option(help="a normal image, for the captioner")] = None,
) -> None:
    """Write an empty form for a new category, or print the captions that a filled one makes."""
    if (captioner is None) != (image is None):
        raise ConfigError(f"--captioner and --image go together; got {captioner!r} and {image and str(image)!r}.")
    if not form.exists():
        fields = captioning.EMPTY
        if captioner is not None and image is not None:
            fields = captioning.ask_captioner(captioner, image, form.stem)
        try:
            form.write_text(captioning.write_form(form.stem, fields), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {form}: {error}.") from error
        filled = "was filled in by the captioner: read it over" if captioner else "is empty: fill it in"
        print(f"{form} {filled}, then `bench captions new {form} > captions.yaml`.", file=sys.stderr)
        return
    if captioner is not None:
        raise ConfigError(f"a captioner writes a new form, and {form} exists: remove it, or leave --captioner out.")
    content = captioning.fill_form(form)
    _longest(check_captions(content, form))
    print(captioning.write_yaml(content), end="")


def _print_table(captions: CaptionSet) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("category", no_wrap=True)
    for name in ("background", "components", "caption"):
        table.add_column(name, overflow="fold")
    for key, record in captions.records.items():
        parts = ", ".join(part.entity for part in record.components)
        table.add_row(key, record.background or "–", parts, record.caption)
    Console().print(table)


def _longest(captions: CaptionSet) -> int:
    """Tokens of the longest prompt of a set; CaptionError if one is too long."""
    from open_clip import SimpleTokenizer  # noqa: PLC0415  (torch)

    tokenizer = SimpleTokenizer()

    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    lengths = (
        check_lengths(captions, category, anomalous_states(category, "auto"), count) for category in captions.records
    )
    return max(lengths)
