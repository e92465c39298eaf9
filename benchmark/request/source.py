"""Reads what a method or data set file says about itself, from its syntax tree, without running it."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from benchmark.request.ranges import read_range

TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool}


class SourceError(Exception):
    """A file does not follow the conventions that make it readable."""


@dataclass(frozen=True)
class Setting:
    """A field of a `Config` dataclass."""

    type: Any  # what omegaconf validates against: a plain type, list[plain type], or either | None
    default: Any
    choices: tuple[Any, ...] = ()  # of a Literal annotation, or of that of a tuple's elements
    range: str = ""  # of a number, or of each one of a list: see `benchmark.request.ranges`; "" for any
    length: int | None = None  # of a list


@dataclass(frozen=True)
class Source:
    """The public class of a file."""

    summary: str  # first line of the module's docstring
    attributes: Mapping[str, Any]  # class attributes that are literals
    settings: Mapping[str, Setting]


def read_source(path: Path, required: tuple[str, ...]) -> Source:
    """Read the one class of `path` that defines all attributes in `required`.

    Raises:
        SourceError: if the file has none or several such classes, or a setting that is no literal or whose range
            is none.
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
        annotation, bounds = _annotated(item.annotation)
        default = ast.literal_eval(item.value) if item.value is not None else None
        kind, choices, length = _type(annotation)
    except (ValueError, KeyError) as error:
        allowed = "int, float, str, bool, Literal[...], tuple[one, ...], one | None, or Annotated[one, RANGE]"
        raise SourceError(
            f"{path}: Config.{name} must be a literal of type {allowed}; got {ast.unparse(item)!r}."
        ) from error
    if bounds is not None:
        try:
            read_range(bounds)
        except ValueError as error:
            raise SourceError(f"{path}: Config.{name}: {error}") from error
        if not _is_number(kind):
            raise SourceError(f"{path}: Config.{name} has a range and is no number; got {ast.unparse(item)!r}.")
    default = list(default) if isinstance(default, tuple) else default
    return name, Setting(kind, default, choices, bounds or "", length)


def _annotated(node: ast.expr) -> tuple[ast.expr, str | None]:
    """The type and the range of `Annotated[TYPE, "RANGE"]`; any other annotation is a type."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Annotated":
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
        if len(parts) != 2 or not isinstance(bounds := ast.literal_eval(parts[1]), str):
            raise ValueError(ast.unparse(node))
        return parts[0], bounds
    return node, None


def _is_number(kind: Any) -> bool:
    """Whether a type of `_type` is int or float, a list of these, or one of both | None."""
    plain = {part for each in (get_args(kind) or (kind,)) for part in (get_args(each) or (each,))}
    return plain - {NoneType} <= {int, float}


def _type(node: ast.expr) -> tuple[Any, tuple[Any, ...], int | None]:
    """The type, the choices and the length of an annotation."""
    if isinstance(node, ast.BinOp):  # X | None
        kind, choices, length = _type(node.left)
        return kind | None, choices, length
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id == "Literal":
            values = ast.literal_eval(node.slice)
            choices = values if isinstance(values, tuple) else (values,)
            return type(choices[0]), choices, None
        if node.value.id == "tuple" and isinstance(node.slice, ast.Tuple):
            first, *others = node.slice.elts
            kind, choices, _ = _type(first)
            if [ast.unparse(other) for other in others] == ["..."]:
                return list[kind], choices, None  # type: ignore[valid-type]
            if all(ast.unparse(other) == ast.unparse(first) for other in others):
                return list[kind], choices, len(node.slice.elts)  # type: ignore[valid-type]
    if isinstance(node, ast.Name):
        return TYPES[node.id], (), None
    raise ValueError(ast.unparse(node))
