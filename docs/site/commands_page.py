"""The reference of the command line, from the command line itself."""

from collections.abc import Iterator
from textwrap import fill
from typing import Any

import typer.main

from benchmark.cli import app
from tables import cell, code, table


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that is not hidden, by what is typed, those of groups too."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        every = [(f"{name} {each}", its) for each, its in inner.items()] if inner else [(name, command)]
        yield from (each for each in every if not each[1].hidden)


def write_commands() -> str:
    """A section for each command."""
    return "\n\n".join(_section(name, command) for name, command in commands())


def _section(name: str, command: Any) -> str:
    usage = fill(" ".join([f"bench {name}", *map(_usage, command.params)]), 80, subsequent_indent="    ")
    rows = [(code(_names(param)), cell(param.help or ""), _default(param)) for param in command.params]
    words = table(("word", "meaning", "default"), rows) if rows else ""
    return f"## {name}\n\n{cell(command.help or '')}\n\n```\n{usage}\n```\n\n{words}"


def _is_word(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _shown(param: Any) -> str:
    return str(param.metavar or param.name.upper()).strip("[].")


def _names(param: Any) -> str:
    return _shown(param) if _is_word(param) else ", ".join([*param.opts, *param.secondary_opts])


def _usage(param: Any) -> str:
    if _is_word(param):
        shown = _shown(param) + "…" * (param.nargs == -1)
        return shown if param.required else f"[{shown}]"
    return f"[{param.opts[0]}{'' if param.is_flag else '=' + _shown(param)}]"


def _default(param: Any) -> str:
    flag = not _is_word(param) and param.is_flag
    return code(param.default) if param.default is not None and not flag else ""
