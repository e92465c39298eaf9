"""Reads what a method or data set file says about itself, from its syntax tree, without running it."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool}


class SourceError(Exception):
    """A file does not follow the conventions that make it readable."""


@dataclass(frozen=True)
class Setting:
    """A field of a `Config` dataclass."""

    type: Any  # what omegaconf validates against: a plain type, list[plain type], or either | None
    default: Any
    choices: tuple[Any, ...] = ()  # of a Literal annotation


@dataclass(frozen=True)
class Source:
    """The public class of a file."""

    summary: str  # first line of the module's docstring
    attributes: Mapping[str, Any]  # class attributes that are literals
    settings: Mapping[str, Setting]


def read_source(path: Path, required: tuple[str, ...]) -> Source:
    """Read the one class of `path` that defines all attributes in `required`.

    Raises:
        SourceError: if the file has none or several such classes, or a setting that is no literal.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    found = [(node, _literals(node)) for node in tree.body if isinstance(node, ast.ClassDef)]
    found = [(node, attributes) for node, attributes in found if set(required) <= set(attributes)]
    if len(found) != 1:
        names = [node.name for node, _ in found]
        raise SourceError(f"{path} must define exactly one class with the literals {', '.join(required)}; got {names}.")
    node, attributes = found[0]
    configs = [item for item in node.body if isinstance(item, ast.ClassDef) and item.name == "Config"]
    fields = [item for config in configs for item in config.body if isinstance(item, ast.AnnAssign)]
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Source(summary, attributes, dict(_setting(path, item) for item in fields))


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    literals = {}
    for item in node.body:
        target: ast.expr | None = item.target if isinstance(item, ast.AnnAssign) else None
        if isinstance(item, ast.Assign) and len(item.targets) == 1:
            target = item.targets[0]
        if isinstance(target, ast.Name) and isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            try:
                literals[target.id] = ast.literal_eval(item.value)
            except ValueError:
                continue
    return literals


def _setting(path: Path, item: ast.AnnAssign) -> tuple[str, Setting]:
    assert isinstance(item.target, ast.Name)
    name = item.target.id
    try:
        default = ast.literal_eval(item.value) if item.value is not None else None
        kind, choices = _type(item.annotation)
    except (ValueError, KeyError) as error:
        allowed = "int, float, str, bool, tuple[..., ...], Literal[...] or one of these | None"
        raise SourceError(
            f"{path}: Config.{name} must be a literal of type {allowed}; got {ast.unparse(item)!r}."
        ) from error
    return name, Setting(kind, list(default) if isinstance(default, tuple) else default, choices)


def _type(node: ast.expr) -> tuple[Any, tuple[Any, ...]]:
    if isinstance(node, ast.BinOp):  # X | None
        kind, choices = _type(node.left)
        return kind | None, choices
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id == "Literal":
            values = ast.literal_eval(node.slice)
            choices = values if isinstance(values, tuple) else (values,)
            return type(choices[0]), choices
        if node.value.id == "tuple" and isinstance(node.slice, ast.Tuple):
            return list[_type(node.slice.elts[0])[0]], ()  # type: ignore[misc]
    if isinstance(node, ast.Name):
        return TYPES[node.id], ()
    raise ValueError(ast.unparse(node))

