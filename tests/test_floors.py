"""The law of the house: a file imports only from floors below it or from components of its own floor."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("datamodules", "methods", "benchmark")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
HEAVY = {"torch", "lightning", "open_clip", "wandb", "torchmetrics", "pandas", "torchvision"}
#: Rooms of the third floor, the lowest first.
ROOMS = (
    "metrics", "request", "records", "pretraining", "execution", "contract", "detector", "commands", "api", "cli",
    "__main__",
)  # fmt: skip
#: Folders of components that another one may import.
BELOW = {"clip": ("feature_store",)}
LIGHT = (
    "benchmark/cli.py",
    "benchmark/commands/show.py",
    "benchmark/commands/listing.py",
    "benchmark/commands/columns.py",
    "benchmark/commands/completion.py",
    "benchmark/commands/arguments.py",
    "benchmark/commands/status.py",
    "benchmark/records/store.py",
    "benchmark/records/claims.py",
    "benchmark/request/compose.py",
    "benchmark/request/sweep_file.py",
    "benchmark/request/registry.py",
    "benchmark/request/groups.py",
    "benchmark/request/needs.py",
    "benchmark/request/source.py",
    "benchmark/request/settings.py",
    "benchmark/request/merging.py",
    "benchmark/request/variants.py",
    "methods/components/clip/published_weights.py",
    "benchmark/request/words.py",
    "benchmark/request/ranges.py",
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


def folder(module: str) -> str:
    """The folder of a method that is one, or a room of a floor; a module that lies on the floor itself for itself."""
    return ".".join(module.split(".")[:2])


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
        own = folder(module) == folder(".".join(path.relative_to(ROOT).with_suffix("").parts))
        beside = other == floor and (floor == "benchmark" or other_component or own)
        assert below or beside, f"{path} imports {module}, which is not below it"
        assert not (component and other == floor and not other_component), f"{path}: a component imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmark").rglob("*.py")), ids=lambda path: path.stem)
def test_rooms_of_the_benchmark_import_downwards(path):
    own = path.relative_to(ROOT / "benchmark").parts[0].removesuffix(".py")
    others = {module.split(".")[1] for _, module in imports(path) if module.startswith("benchmark.")}
    assert own == "__init__" or all(ROOMS.index(other) <= ROOMS.index(own) for other in others), others


def test_components_import_without_a_circle():
    """Folders of components are ordered: clip knows the store, nothing in a folder knows the files beside it."""
    components = ROOT / "methods" / "components"
    for path in components.glob("*/*.py"):
        for _, module in imports(path):
            parts = module.split(".")
            if parts[:2] == ["methods", "components"] and len(parts) > 2:
                assert (components / parts[2]).is_dir(), f"{path} imports {module}"
                allowed = {path.parent.name, *BELOW.get(path.parent.name, ())}
                assert parts[2] in allowed, f"{path} imports {module}"


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
