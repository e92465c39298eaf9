"""Twins of the data sets, written once, and cases that run the contract over all of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import real_twins as real
import twins

from datamodules.aitex import AITEX
from datamodules.bmad_brain import BMADBrain
from datamodules.bmad_liver import BMADLiver
from datamodules.bmad_oct2017 import BMADOCT2017
from datamodules.bmad_resc import BMADRESC
from datamodules.br35h import Br35H
from datamodules.brain_mri import BrainMRI
from datamodules.btad import BTAD
from datamodules.components import content
from datamodules.components.base import AnomalyDataModule
from datamodules.cvc_clinicdb import CVCClinicDB
from datamodules.cvc_colondb import CVCColonDB
from datamodules.dagm import DAGM
from datamodules.dtd_synthetic import DTDSynthetic
from datamodules.elpv import ELPV
from datamodules.endo import Endo
from datamodules.folder import Folder
from datamodules.head_ct import HeadCT
from datamodules.isic2016 import ISIC2016
from datamodules.ksdd import KSDD
from datamodules.kvasir import Kvasir
from datamodules.lag import LAG
from datamodules.mpdd import MPDD
from datamodules.mvtec_ad import MVTecAD
from datamodules.mvtec_ad_2 import MVTecAD2
from datamodules.real_iad import RealIAD
from datamodules.textile import Textile
from datamodules.tn3k import TN3K
from datamodules.visa import VisA


@dataclass(frozen=True)
class Case:
    """A data set on a twin: what is written, and what must be found."""

    kind: type[AnomalyDataModule]
    write: Callable[[Path], Path] | None  # its twin; None for the real package
    categories: tuple[str, ...]
    normals: int = 5
    tests: tuple[int, int] = (3, 4)  # normal, anomalous
    masks: tuple[str, ...] = ()  # categories with masks
    config: dict[str, Any] = field(default_factory=dict)

    def build(self, root: Path | None, **settings: Any) -> AnomalyDataModule:
        defaults: dict[str, Any] = {"image_size": 16, "batch_size": 3}
        categories = settings.pop("categories", self.categories)
        data = self.kind(root, categories, **defaults | settings, config=self.kind.Config(**self.config))
        data.prepare_data()
        return data


QUARTER = {"variant": "quarter"}
CASES = {
    "mvtec_ad": Case(MVTecAD, twins.write_mvtec_ad, ("bottle", "metal_nut"), masks=("bottle", "metal_nut")),
    "visa": Case(VisA, twins.write_visa, ("pcb1", "candle"), masks=("pcb1", "candle")),
    "folder": Case(Folder, twins.write_folder, ("blue part", "red_part"), masks=("blue part",)),
    "folder-single": Case(Folder, twins.write_single, ("folder-single",), masks=("folder-single",)),
    "folder-meta": Case(Folder, twins.write_meta, ("part",), masks=("part",), config={"layout": "meta"}),
    "textile": Case(Textile, None, ("textile",), normals=500, tests=(500, 1000)),
    "mpdd": Case(MPDD, real.write_mpdd, ("bracket_black", "tubes"), masks=("bracket_black", "tubes")),
    "dtd_synthetic": Case(
        DTDSynthetic, real.write_dtd_synthetic, ("Blotchy_099", "Woven_127"), masks=("Blotchy_099", "Woven_127")
    ),
    "btad": Case(BTAD, real.write_btad, ("01", "02", "03"), masks=("01", "02", "03")),
    "mvtec_ad_2": Case(MVTecAD2, real.write_mvtec_ad_2, ("can", "walnuts"), masks=("can", "walnuts")),
    "dagm": Case(DAGM, real.write_dagm, ("Class1", "Class10"), masks=("Class1", "Class10")),
    "real_iad": Case(
        RealIAD, real.write_real_iad, ("audiojack", "u_block"), 10, (6, 8), masks=("audiojack", "u_block")
    ),
    "real_iad-single": Case(
        RealIAD,
        real.write_real_iad,
        ("audiojack", "u_block"),
        masks=("audiojack", "u_block"),
        config={"variant": "single_view"},
    ),
    "ksdd": Case(KSDD, real.write_ksdd, ("commutator",), 33, (11, 4), masks=("commutator",)),
    "ksdd-whole": Case(
        KSDD, real.write_ksdd, ("commutator",), 10, (2, 4), masks=("commutator",), config={"variant": "whole"}
    ),
    "dagm-pooled": Case(
        DAGM, real.write_dagm, ("Class1", "Class10"), 0, (8, 8), ("Class1", "Class10"), {"variant": "pooled"}
    ),
    "aitex": Case(AITEX, real.write_aitex, ("fabric",), 12, (4, 4), masks=("fabric",)),
    "elpv": Case(ELPV, real.write_elpv, ("solar_cell",), 15, (5, 4)),
    "elpv-mono": Case(ELPV, real.write_elpv, ("solar_cell",), 8, (2, 2), config={"variant": "mono"}),
    "brain_mri": Case(BrainMRI, real.write_brain_mri, ("brain",), 6, (2, 4), config=QUARTER),
    "brain_mri-all": Case(BrainMRI, real.write_brain_mri, ("brain",), 0, (8, 4)),
    "br35h": Case(Br35H, real.write_br35h, ("brain",), 6, (2, 4), config=QUARTER),
    "lag": Case(LAG, real.write_lag, ("retina",), 6, (2, 4), config=QUARTER),
    "head_ct": Case(HeadCT, real.write_head_ct, ("head",), 6, (2, 4), config=QUARTER),
    "cvc_colondb": Case(CVCColonDB, real.write_cvc_colondb, ("colon",), 0, (0, 4), masks=("colon",)),
    "cvc_clinicdb": Case(CVCClinicDB, real.write_cvc_clinicdb, ("colon",), 0, (0, 4), masks=("colon",)),
    "kvasir": Case(Kvasir, real.write_kvasir, ("colon",), 0, (0, 4), masks=("colon",)),
    "endo": Case(Endo, real.write_endo, ("colon",), 0, (0, 4), masks=("colon",)),
    "isic2016": Case(ISIC2016, real.write_isic2016, ("skin",), 0, (0, 4), masks=("skin",)),
    "tn3k": Case(TN3K, real.write_tn3k, ("thyroid",), 0, (0, 4), masks=("thyroid",)),
    "bmad_brain": Case(BMADBrain, real.write_bmad_brain, ("brain",), masks=("brain",)),
    "bmad_liver": Case(BMADLiver, real.write_bmad_liver, ("liver",), masks=("liver",)),
    "bmad_resc": Case(BMADRESC, real.write_bmad_resc, ("retina",), masks=("retina",)),
    "bmad_oct2017": Case(BMADOCT2017, real.write_bmad_oct2017, ("retina",)),
    "folder-flat": Case(Folder, twins.write_flat, ("part",), masks=("part",), config={"split": 0.625}),
    "folder-anomalib": Case(
        *(Folder, twins.write_anomalib, ("folder-anomalib",)),
        masks=("folder-anomalib",),
        config={"normal": ["normals"], "abnormal": ["faults"], "normal_test": ["clean"], "masks": "truth"},
    ),
    "folder-table": Case(Folder, twins.write_table, ("folder-table",), masks=("folder-table",)),
}


@pytest.fixture(params=CASES, scope="session")
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="session")
def roots(tmp_path_factory) -> dict[str, Path | None]:
    """A root per case, for reading only."""
    base = tmp_path_factory.mktemp("twins")
    return {name: c.write(base / name) if c.write else None for name, c in CASES.items()}


@pytest.fixture
def root(case, roots) -> Path | None:
    """The root of the case, for reading only."""
    return next(roots[name] for name, other in CASES.items() if other is case)


@pytest.fixture
def twin(tmp_path) -> Callable[[str], Path]:
    """Writes the named twin afresh, to be damaged."""
    written = vars(real) | vars(twins)
    return lambda name: written[f"write_{name}"](tmp_path / name)


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
