"""`bench new`: a method or a data set to begin with, commented, and its test."""

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from benchmark.request import registry
from benchmark.request.registry import ConfigError

app = typer.Typer(help="Write a method or a data set to begin with, and its test.", no_args_is_help=True)
TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 40  # characters of a name
FLOORS = {"method": "methods", "dataset": "datamodules"}


@app.command("method")
def new_method(
    name: Annotated[str, typer.Argument(help="lower case with underscores; the key by which `bench` knows it")],
    learns: Annotated[bool, typer.Option("--learns", help="one that is fitted; else one that remembers shots")] = False,
) -> None:
    """Write a method that runs as it is: into the checkout, or elsewhere a package that offers it as a plug-in."""
    _write("method", name, "learns" if learns else "memory")


@app.command("dataset")
def new_dataset(
    name: Annotated[str, typer.Argument(help="lower case with underscores; the key by which `bench` knows it")],
) -> None:
    """Write a data set in the layout of MVTec AD: into the checkout, or elsewhere a package that offers it."""
    _write("dataset", name, "dataset")


def _write(kind: str, name: str, template: str) -> None:
    """Write all files or, where one is there already, none; print what to do next."""
    _check(kind, name)
    root = registry.ROOT
    inside = (root / "tests").is_dir() and Path.cwd().is_relative_to(root)
    files = _in_checkout(kind, name, template, root) if inside else _as_plugin(kind, name, template)
    if there := [path for path in files if path.exists()]:
        raise ConfigError(f"{there[0]} exists already: nothing was written.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    print(*_next(kind, name, inside=inside), sep="\n")


def _check(kind: str, name: str) -> None:
    """ConfigError unless a name is free and can be one of a module, a setting and a file."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or len(name) > LONGEST:
        raise ConfigError(
            f"a name is made of lower-case letters, digits and underscores, begins with a letter, is no word of Python "
            f"and has at most {LONGEST} characters, such as my_{kind}; got {name!r}."
        )
    if name in registry.names(kind):
        raise ConfigError(f"there is a {kind} {name!r} already; `bench show {kind} {name}` tells of it.")
    if kind == "dataset" and (meant := registry.known_as(name)):
        raise ConfigError(f"the data set {name!r} is here already, as {meant!r}.")
    if (registry.ROOT / FLOORS[kind] / name).exists() or name in registry.PACKAGES.values():
        raise ConfigError(f"{name!r} is a name of the suite's own: choose another one.")


def _class_name(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _filled(template: str, kind: str, name: str) -> str:
    text = (TEMPLATES / f"{template}.py").read_text(encoding="utf-8")
    return text.replace(f"new_{kind}", name).replace(f"New{kind.capitalize()}", _class_name(name))


def _in_checkout(kind: str, name: str, template: str, root: Path) -> dict[Path, str]:
    floor = FLOORS[kind]
    return {
        root / floor / f"{name}.py": _filled(template, kind, name),
        root / "tests" / floor / f"test_{name}.py": _filled(f"test_{template}", kind, name),
    }


def _as_plugin(kind: str, name: str, template: str) -> dict[Path, str]:
    if (found := find_spec(name)) and found.origin:
        raise ConfigError(f"Python knows a package {name!r} already, {found.origin}: choose another name.")
    package = (TEMPLATES / "plugin.toml").read_text(encoding="utf-8").replace("NEW-PACKAGE", name.replace("_", "-"))
    for word, meant in {"NEW_KIND": kind, "NEW_NAME": name, "NEW_CLASS": _class_name(name)}.items():
        package = package.replace(word, meant)
    folder = Path.cwd() / name
    return {
        folder / "pyproject.toml": package,
        folder / name / "__init__.py": f'"""Offers {name} to clip-ad-bench."""\n',
        folder / name / f"{kind}.py": _filled(template, kind, name),
        folder / "tests" / f"test_{name}.py": _filled(f"test_{template}", kind, name),
    }


def _next(kind: str, name: str, *, inside: bool) -> list[str]:
    test = f"tests/{FLOORS[kind]}/test_{name}.py" if inside else f"{name}/tests"
    lines = ["next:"] if inside else ["next:", f"  pip install --no-deps -e ./{name}"]
    lines += [f"  pytest {test}"]
    if kind == "method":
        lines += [
            f"  bench check {name}",
            f"  bench run --methods {name},nearest_patch --datasets procedural --shots 1",
        ]
    else:
        lines += [f"  bench run --methods winclip --datasets {name} dataset.{name}.root=/path/to/images"]
        lines += ["  its line among CASES of tests/datamodules/conftest.py: see CONTRIBUTING.md"] if inside else []
    return lines
