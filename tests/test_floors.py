"""The law of the house: a file imports only from floors below it or from components of its own floor."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("datamodules", "methods", "benchmark")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
HEAVY = {"torch", "lightning", "open_clip", "wandb", "torchmetrics", "pandas", "torchvision"}
LIGHT = (
    "benchmark/cli.py",
    "benchmark/show.py",
    "benchmark/registry.py",
    "benchmark/source.py",
    "benchmark/settings.py",
    "benchmark/merging.py",
    "benchmark/variants.py",
    "methods/components/published_weights.py",
    "benchmark/words.py",
    "benchmark/ranges.py",
)


def imports(path: Path) -> list[tuple[ast.stmt, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole path, the reader should see the floor"
            found.append((node, node.module or ""))
    return found


def room(module: str) -> tuple[str, bool]:
    """Floor of a module and whether it is a component."""
    parts = module.split(".")
    return parts[0], len(parts) > 1 and parts[1] == "components"


def test_there_are_files():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down(path):
    floor, component = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for _, module in imports(path):
        other, other_component = room(module)
        if other not in FLOORS:
            continue
        below = FLOORS.index(other) < FLOORS.index(floor)
        beside = other == floor and (floor == "benchmark" or other_component)
        assert below or beside, f"{path} imports {module}, which is not below it"
        assert not (component and other == floor and not other_component), f"{path}: a component imports {module}"


@pytest.mark.parametrize("name", LIGHT)
def test_listing_needs_nothing_heavy(name):
    tree = ast.parse((ROOT / name).read_text())
    tops = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in tops}
    assert not {module.split(".")[0] for module in modules} & HEAVY


def test_methods_are_blind_to_metrics_and_datamodules_to_clip():
    for path in FILES:
        floor = path.relative_to(ROOT).parts[0]
        forbidden = {"datamodules": ("open_clip", "sklearn", "torchmetrics"), "methods": ("sklearn", "torchmetrics")}
        for _, module in imports(path):
            assert module.split(".")[0] not in forbidden.get(floor, ()), f"{path} imports {module}"
