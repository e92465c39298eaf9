"""Twins of the data sets, written once, and cases that run the contract over all of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import twins

from datamodules.components import content
from datamodules.components.base import AnomalyDataModule
from datamodules.folder import Folder
from datamodules.mvtec_ad import MVTecAD
from datamodules.textile import Textile
from datamodules.visa import VisA


@dataclass(frozen=True)
class Case:
    """A data set on a twin: what is written, and what must be found."""

    kind: type[AnomalyDataModule]
    write: str  # function of twins.py; "" for the real package
    categories: tuple[str, ...]
    normals: int = 5
    tests: tuple[int, int] = (3, 4)  # normal, anomalous
    masks: tuple[str, ...] = ()  # categories with masks
    config: dict[str, Any] = field(default_factory=dict)

    def build(self, root: Path | None, **settings: Any) -> AnomalyDataModule:
        defaults: dict[str, Any] = {"image_size": 16, "batch_size": 3}
        categories = settings.pop("categories", self.categories)
        return self.kind(root, categories, **defaults | settings, config=self.kind.Config(**self.config))


CASES = {
    "mvtec_ad": Case(MVTecAD, "write_mvtec_ad", ("bottle", "metal_nut"), masks=("bottle", "metal_nut")),
    "visa": Case(VisA, "write_visa", ("pcb1", "candle"), masks=("pcb1", "candle")),
    "folder": Case(Folder, "write_folder", ("blue part", "red_part"), masks=("blue part",)),
    "folder-single": Case(Folder, "write_single", ("folder-single",), masks=("folder-single",)),
    "folder-meta": Case(Folder, "write_meta", ("part",), masks=("part",), config={"layout": "meta"}),
    "folder-flat": Case(Folder, "write_flat", ("part",), masks=("part",), config={"split": 0.625}),
    "folder-anomalib": Case(
        *(Folder, "write_anomalib", ("folder-anomalib",)),
        masks=("folder-anomalib",),
        config={"normal": ["normals"], "abnormal": ["faults"], "normal_test": ["clean"], "masks": "truth"},
    ),
    "folder-table": Case(Folder, "write_table", ("folder-table",), masks=("folder-table",)),
    "textile": Case(Textile, "", ("textile",), normals=500, tests=(500, 1000)),
}


@pytest.fixture(params=CASES, scope="session")
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="session")
def roots(tmp_path_factory) -> dict[str, Path | None]:
    """A root per case, for reading only."""
    base = tmp_path_factory.mktemp("twins")
    return {name: getattr(twins, c.write)(base / name) if c.write else None for name, c in CASES.items()}


@pytest.fixture
def root(case, roots) -> Path | None:
    """The root of the case, for reading only."""
    return next(roots[name] for name, other in CASES.items() if other is case)


@pytest.fixture
def twin(tmp_path) -> Callable[[str], Path]:
    """Writes the named twin afresh, to be damaged."""
    return lambda name: getattr(twins, f"write_{name}")(tmp_path / name)


@pytest.fixture
def cases() -> dict[str, Case]:
    return CASES


@pytest.fixture
def digests(tmp_path, monkeypatch) -> Path:
    """The database of an empty cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "_stores", {})
    return tmp_path / "cache" / content.DATABASE


@pytest.fixture
def later(monkeypatch):
    """Ten seconds after whatever was written."""
    monkeypatch.setattr(content.time, "time_ns", lambda: int((time.time() + 10) * 1e9))


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files that are read from here on."""
    names: list[str] = []
    read = content._read
    monkeypatch.setattr(content, "_read", lambda path: (names.append(Path(path).name), read(path))[1])
    return names


@pytest.fixture
def restart(monkeypatch):
    """What the end of a process and the start of the next one do."""

    def end_and_start():
        content.flush()
        monkeypatch.setattr(content, "_stores", {})

    return end_and_start
