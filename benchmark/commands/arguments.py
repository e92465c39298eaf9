"""What several commands take: types of arguments, and the rule that an option stands once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from benchmark.commands import completion
from benchmark.request.compose import AXES
from benchmark.request.registry import ConfigError


def read_folder(text: str | Path) -> Path:
    """The path of a results folder, which may not exist yet; ConfigError where it can be none."""
    if not str(text).strip():
        raise ConfigError(f"a results folder must have a name, got {str(text)!r}.")
    folder = Path(text)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"a results folder must be a folder, got the file {folder}.")
    return folder


def folder_option(words: str) -> Any:
    """An option that takes a results folder."""
    return typer.Option(parser=read_folder, metavar="FOLDER", help=words)


def named(words: str, complete: Callable[..., list[str]]) -> Any:
    """An option that takes names, which TAB completes."""
    return typer.Option(help=words, autocompletion=complete)


class SaidOnce(TyperCommand):
    """A command whose options each stand once: of two, click takes the last without a word."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if ctx.resilient_parsing:  # a line that is still typed
            return super().parse_args(ctx, args)
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        options = [param.opts[0] for param in order if param.param_type_name == "option"]
        twice = [option for option in options if options.count(option) > 1]
        if twice:
            lists = (
                "several values stand in one, as in --methods a,b" if twice[0][2:] in AXES else "keep one of the two"
            )
            raise ConfigError(f"{twice[0]} is said twice; {lists}.")
        return super().parse_args(ctx, args)


Folder = Annotated[Path, typer.Argument(parser=read_folder, metavar="FOLDER", help="a results folder")]
Json = Annotated[bool, typer.Option("--json", help="print JSON alone, see docs/command-line.md")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print errors and the paths of what is written alone")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="any key of `bench show`", autocompletion=completion.words),
]
Method = Annotated[str, typer.Argument(help="a name of `bench list methods`", autocompletion=completion.method)]
