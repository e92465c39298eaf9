"""The in-house source behind a number: what a module imports, directly or not, hashed without comments and layout.

In-house are the three floors, the top-level packages of the modules that are asked for, and what these import from
outside of `site-packages`. A data file that a module names by a literal and that lies beside it belongs to its code;
weights do not, they are identified by their content.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS = ("benchmark", "methods", "datamodules")
#: Runs and measures every cell.
MEASURING = "benchmark.execution.run_cell"
NO_CODE = (".py", ".safetensors", ".md")  # endings of neighbours that are modules, weights or prose
NO_MODULE = ("", "__main__")  # of an import that ends above its package; whatever program runs
DIGITS = 16  # of a file's hash
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_of(modules: Iterable[str]) -> dict[str, str]:
    """Hashes of all files that the modules are made of.

    Args:
        modules: names, such as "methods.winclip", a plug-in's "mine.method", or `MEASURING`.

    Returns:
        File, named from the folder of its top-level package, to the first digits of its hash; sorted.
    """
    return dict(_closure(tuple(sorted({*modules}))))


def hash_code(code: Mapping[str, str]) -> str:
    """One name for a whole set of files."""
    return hashlib.sha256("".join(f"{name} {digits}\n" for name, digits in sorted(code.items())).encode()).hexdigest()


def look_again() -> None:
    """Forget what files held: they may have changed since."""
    for remembered in (_closure, _read, _digest, _homes):
        remembered.cache_clear()


@cache
def _closure(modules: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    own = {module.partition(".")[0] for module in modules}
    found: dict[Path, Path] = {}  # file → the folder it is named from
    left = list(modules)
    while left:
        module = left.pop()
        home, top = _home(module), module.partition(".")[0]
        if home is None or not (top in own or top in FLOORS or _is_local(home)):
            continue
        for path in _files(module, home):
            if path not in found:
                found[path] = home
                source = _read(path)
                found |= dict.fromkeys(source.neighbours, home)
                left += source.imports(module, is_package=path.name == "__init__.py")
    return tuple(sorted((path.relative_to(home).as_posix(), _digest(path)) for path, home in found.items()))


def _home(module: str) -> Path | None:
    """The folder that holds the top-level package of a module; None of what is built in or absent."""
    homes = _homes(module.partition(".")[0])
    return next((home for home in homes if len(homes) == 1 or _own_file(module, home)), None)


@cache
def _homes(top: str) -> tuple[Path, ...]:
    """The folders that hold a top-level package or module: several of one without `__init__.py`, a namespace."""
    if top in FLOORS:
        return (ROOT,)
    if top in NO_MODULE or top in sys.stdlib_module_names or not (spec := find_spec(top)):
        return ()
    if spec.origin is None:
        return tuple(Path(place).parent for place in spec.submodule_search_locations or ())
    origin = Path(spec.origin)
    return (origin.parents[1 if spec.submodule_search_locations else 0],) if origin.is_file() else ()


def _is_local(home: Path) -> bool:
    """Whether a package is somebody's own source, not installed by a release, whose version a record holds."""
    return not {"site-packages", "dist-packages"} & {*home.parts}


def file_of(module: str) -> Path | None:
    """The file of a module, which is not imported; None of one that is built in, of the standard library or absent."""
    home = _home(module)
    return _own_file(module, home) if home else None


def _own_file(module: str, home: Path) -> Path | None:
    place = home.joinpath(*module.split("."))
    own = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return own if own.is_file() else None


def _files(module: str, home: Path) -> Iterator[Path]:
    """The file of a module and those of the packages around it, which an import runs too; none if it is no module."""
    parts = module.split(".")
    if own := _own_file(module, home):
        yield own
    for depth in range(1, len(parts)):
        package = home.joinpath(*parts[:depth], "__init__.py")
        if package.is_file():
            yield package


class _Source:
    """What a file says, without comments, docstrings and layout."""

    def __init__(self, path: Path) -> None:
        tree = _parse(path)
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        beside = {other.name: other for other in path.parent.iterdir() if other.suffix not in NO_CODE}
        self.neighbours = [other for name, other in beside.items() if name in words and other.is_file()]
        self._imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        self.digest = hashlib.sha256(_spell(tree).encode()).hexdigest()[:DIGITS]

    def imports(self, module: str, *, is_package: bool) -> Iterator[str]:
        """Modules that `module`, which this file is, may import; a name imported from a package may be one."""
        for node in self._imports:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
                continue
            around = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*around, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _parse(path: Path) -> ast.Module:
    """The syntax tree of a file; of one that is no Python, one that holds its bytes."""
    content = path.read_bytes()
    try:
        return ast.parse(content, str(path))
    except (SyntaxError, ValueError):  # whoever imports it says so
        return ast.Module([ast.Expr(ast.Constant(content))], [])


@cache
def _read(path: Path) -> _Source:
    return _Source(path)


@cache
def _digest(path: Path) -> str:
    if path.suffix == ".py":
        return _read(path).digest
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def _spell(node: object) -> str:
    """A syntax tree in one spelling that no release of Python changes: fields that are empty are left out."""
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={_spell(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_spell, node))}]"
    return repr(node)
