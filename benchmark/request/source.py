"""Reads what a method or data set file says about itself, from its syntax tree, without running it.

A `Config` may inherit the fields of another one, and an annotation may name an alias such as
`Bank = Literal["per_class", "pooled"]`. Both may stand in the same file or in one that it imports them from.
"""

import ast
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from benchmark.request.code import file_of
from benchmark.request.ranges import read_range

TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool}
_PLAIN = {*TYPES, "Literal", "Annotated", "tuple"}  # names in an annotation that are no alias
_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.+)")
_FIRST_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z0-9\"`])")


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
    meaning: str = ""  # first sentence of its entry in the docstring
    detail: str = field(default="", compare=False)  # the others, such as what papers and their code take
    path: Path | None = field(default=None, compare=False)  # file that declares it


@dataclass(frozen=True)
class Source:
    """The public class of a file."""

    path: Path  # of the file that defines it
    module: str  # of that file; "" where it was read by its path alone
    summary: str  # first line of the module's docstring
    attributes: Mapping[str, Any]  # class attributes that are literals
    settings: Mapping[str, Setting]


def read_source(path: Path, required: tuple[str, ...], name: str = "", module: str = "") -> Source:
    """Read a class of `path` that defines all attributes in `required`.

    Args:
        path: a Python file.
        required: literals.
        name: of the class, which the file defines or imports from one that does; "" for the only one that it defines.
        module: the file's own name; "" where nothing it imports relatively needs to be named.

    Raises:
        SourceError: the file cannot be parsed, has no such class or several, a base of `Config` that cannot be
            found, a setting that is no literal, or a range that is none.
    """
    try:
        file, node = _named(_File(path, module), name, required) if name else _only(_File(path, module), required)
        summary = (ast.get_docstring(file.tree) or "").partition("\n")[0]
        config = _nested(file, node, "Config")
        return Source(file.path, file.module, summary, _literals(node), _fields(*config) if config else {})
    except RecursionError as error:
        raise SourceError(f"{path}: a base or an alias of Config must not lead back to itself.") from error


def _only(file: "_File", required: tuple[str, ...]) -> tuple["_File", ast.ClassDef]:
    classes = [node for node in file.tree.body if isinstance(node, ast.ClassDef)]
    found = [node for node in classes if set(required) <= set(_literals(node))]
    if len(found) != 1:
        raise SourceError(
            f"{file.path} must define exactly one class with the literals {', '.join(required)}; "
            f"got {[node.name for node in found]}."
        )
    return file, found[0]


def _named(file: "_File", name: str, required: tuple[str, ...]) -> tuple["_File", ast.ClassDef]:
    found = file.find_class(ast.Name(name))
    if found is None:
        raise SourceError(f"{file.path} must define the class {name}, or import it by its name from a file that does.")
    if missing := [literal for literal in required if literal not in _literals(found[1])]:
        raise SourceError(f"{found[0].path}: {found[1].name} must have the literals {', '.join(missing)}.")
    return found


def read_fields(path: Path, name: str) -> dict[str, Setting]:
    """The fields of the dataclass `name` of a file, read like those of a `Config`; SourceError as `read_source`."""
    file = _File(path)
    return _fields(file, next(node for node in file.tree.body if isinstance(node, ast.ClassDef) and node.name == name))


class _File:
    """A syntax tree and the names that its module defines or imports from a file."""

    def __init__(self, path: Path, module: str = "") -> None:
        self.path, self.module = path, module
        try:
            self.tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        except SyntaxError as error:
            raise SourceError(f"{path}, line {error.lineno}: {error.msg}.") from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{path} cannot be read: {error}.") from error
        self._defined: dict[str, ast.ClassDef | ast.expr] = {}
        self._imports: dict[str, tuple[ast.ImportFrom, str]] = {}
        for item in self.tree.body:
            if isinstance(item, ast.ClassDef):
                self._defined[item.name] = item
            elif isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                self._defined |= {target.id: item.value for target in targets if isinstance(target, ast.Name)}
            elif isinstance(item, ast.ImportFrom):
                self._imports |= {alias.asname or alias.name: (item, alias.name) for alias in item.names}

    def find(self, name: str) -> tuple["_File", ast.ClassDef | ast.expr] | None:
        """The class or the assigned value that a name of this module means, and its file; None if it is not found."""
        if name in self._defined:
            return self, self._defined[name]
        if name not in self._imports:
            return None
        item, original = self._imports[name]
        path = self._path_of(item)
        return _File(path, self._module_of(item)).find(original) if path else None

    def _module_of(self, item: ast.ImportFrom) -> str:
        parts = self.module.split(".")
        around = parts[: len(parts) - item.level + (self.path.name == "__init__.py")] if item.level else []
        return ".".join([*around, *([item.module] if item.module else [])])

    def _path_of(self, item: ast.ImportFrom) -> Path | None:
        if not item.level:
            return file_of(item.module or "")
        place = self.path.parents[item.level - 1].joinpath(*(item.module or "").split("."))
        own = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        return own if own.is_file() else None

    def find_class(self, base: ast.expr) -> tuple["_File", ast.ClassDef] | None:
        """The class that an expression such as `PromptAD.Config` means, and its file; None if it is not found."""
        if isinstance(base, ast.Attribute):
            outer = self.find_class(base.value)
            return _nested(*outer, base.attr) if outer else None
        found = self.find(base.id) if isinstance(base, ast.Name) else None
        return (found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None


def _nested(file: _File, node: ast.ClassDef, name: str) -> tuple[_File, ast.ClassDef] | None:
    """The class `name` in a class or, where it has none, in one of its bases."""
    for item in node.body:
        if isinstance(item, ast.ClassDef) and item.name == name:
            return file, item
    for base in node.bases:
        outer = file.find_class(base)
        if outer and (found := _nested(*outer, name)):
            return found
    return None


def _fields(file: _File, node: ast.ClassDef) -> dict[str, Setting]:
    """The fields of a dataclass in the order of its constructor: those of its bases first."""
    fields: dict[str, Setting] = {}
    for base in reversed(node.bases):
        found = file.find_class(base)
        if found is None:
            raise SourceError(
                f"{file.path}: {node.name} inherits {ast.unparse(base)}, which must be a class of this file or of one "
                f"that it imports from."
            )
        fields |= _fields(*found)
    said = {key: (setting.meaning, setting.detail) for key, setting in fields.items()} | _entries(node)
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            fields |= [_setting(file, node.name, item)]
        elif isinstance(item, ast.Assign) and {ast.unparse(target) for target in item.targets} & fields.keys():
            raise SourceError(f"{file.path}: {node.name}.{ast.unparse(item)} must repeat the annotation of the field.")
    told = {key: said.get(key, ("", "")) for key in fields}
    return {key: replace(its, meaning=told[key][0], detail=told[key][1]) for key, its in fields.items()}


def _entries(node: ast.ClassDef) -> dict[str, tuple[str, str]]:
    """The first sentence and the others of each entry below "Attributes:" in the docstring of a class, by name."""
    _, _, section = (ast.get_docstring(node) or "").partition("Attributes:\n")
    entries: list[tuple[str, list[str]]] = []
    for line in section.splitlines():
        if match := _ENTRY.fullmatch(line):
            entries.append((match[1], [match[2]]))
        elif entries and line.startswith(" " * 8):
            entries[-1][1].append(line.strip())
        elif line.strip():
            break
    texts = [(names, _FIRST_SENTENCE.split(" ".join(lines), maxsplit=1)) for names, lines in entries]
    return {name: (text, " ".join(more)) for names, (text, *more) in texts for name in names.split(", ")}


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


def _setting(file: _File, config: str, item: ast.AnnAssign) -> tuple[str, Setting]:
    name = ast.unparse(item.target)
    what = f"{file.path}: {config}.{name}"
    try:
        annotation, bounds = _annotated(_inline(file, item.annotation))
        default = ast.literal_eval(item.value) if item.value is not None else None
        kind, choices, length = _type(annotation)
    except (ValueError, KeyError) as error:
        allowed = "int, float, str, bool, Literal[...], tuple[one, ...], one | None, or Annotated[one, RANGE]"
        raise SourceError(
            f"{what} must be a literal of type {allowed}, or of an alias of one; got {ast.unparse(item)!r}."
        ) from error
    if bounds is not None:
        try:
            read_range(bounds)
        except ValueError as error:
            raise SourceError(f"{what}: {error}") from error
        if not _is_number(kind):
            raise SourceError(f"{what} has a range and is no number; got {ast.unparse(item)!r}.")
    default = list(default) if isinstance(default, tuple) else default
    return name, Setting(kind, default, choices, bounds or "", length, path=file.path)


class _Inline(ast.NodeTransformer):
    """Puts what an alias stands for in the place of its name."""

    def __init__(self, file: _File) -> None:
        self.file = file

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = None if node.id in _PLAIN else self.file.find(node.id)
        return _inline(found[0], found[1]) if found and isinstance(found[1], ast.expr) else node


def _inline(file: _File, annotation: ast.expr) -> ast.expr:
    inlined: ast.expr = _Inline(file).visit(deepcopy(annotation))
    return inlined


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
