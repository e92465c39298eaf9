"""`bench captions`: check, show and write the captions that FineGrainedAD prompts with."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmark.commands import caption_form as captioning
from benchmark.commands import completion
from benchmark.commands.columns import print_rows
from benchmark.request.registry import ConfigError, unknown
from methods.components.captions.fields import refuse
from methods.components.captions.lookup import (
    CONTEXT_LENGTH,
    check_captions,
    check_lengths,
    read_captions,
    shipped_sets,
)
from methods.components.captions.records import CaptionSet
from methods.components.captions.rules import contradictions, shortages
from methods.components.states import GENERIC_STATES, anomalous_states

app = typer.Typer(help="Check, show and write the captions of normal images.", no_args_is_help=True)
Source = Annotated[
    str,
    typer.Argument(
        metavar="SET", help="a data set's name, or a YAML file of your own", autocompletion=completion.captions
    ),
]


@app.command()
def lint(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[SET]...", help="default: all shipped ones")] = None,
) -> None:
    """Check sets of captions: fields, words, what their prompts would say once states and places are put in, length."""
    for source in sources or shipped_sets():
        captions = read_captions(source)
        parts = sum(len(record.components) for record in captions.records.values())
        print(
            f"{source}: captions {len(captions.records)}, components {parts}, "
            f"longest prompt {_check_prompts(captions)} of {CONTEXT_LENGTH} tokens"
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
    content = captioning.fill_form(form, partial(anomalous_states, lists="auto"))
    _check_prompts(check_captions(content, form))
    print(captioning.write_yaml(content), end="")


def _print_table(captions: CaptionSet) -> None:
    rows = [
        (key, record.background or "–", ", ".join(part.entity for part in record.components), record.caption)
        for key, record in captions.records.items()
    ]
    print_rows(("category", "background", "components", "caption"), rows, Console())


def _check_prompts(captions: CaptionSet) -> int:
    """Tokens of the longest prompt of a set; CaptionError if one is too long or a state breaks a rule with it."""
    from open_clip import SimpleTokenizer  # noqa: PLC0415  (torch)

    tokenizer = SimpleTokenizer()

    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    words, longest = captions.vocabulary, 0
    for category, record in captions.records.items():
        states = anomalous_states(category, "auto")
        refuse(captions.path, contradictions(category, record, words, states))
        most = max(len(GENERIC_STATES), len(states) - len(GENERIC_STATES))  # a prompt has the one kind or the other
        refuse(captions.path, shortages(category, record, words, most))
        longest = max(longest, check_lengths(captions, category, states, count))
    return longest
