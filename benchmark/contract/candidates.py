"""What the contract is checked on: a method in one of its protocols, a small random CLIP, and a run on noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import open_clip
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from benchmark.execution.build import build_method
from benchmark.execution.data import fitted_on, open_data, target
from benchmark.execution.evaluator import Kept, Predictions
from benchmark.execution.fitting import fit
from benchmark.execution.kept_fit import dump, read, restore
from benchmark.execution.run_cell import loading, predict_tests
from benchmark.execution.watch import NOBODY
from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.merging import Layer
from benchmark.request.needs import Need, read_need
from benchmark.request.plan import make_plan
from benchmark.request.protocols import PROTOCOLS
from benchmark.request.settings import compose, parse_words
from datamodules.components.base import AnomalyDataModule
from datamodules.components.content import file_digest
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.seal import Seal, seal
from methods.components.prediction import Prediction

#: Categories that every method has words for, and how they are called.
WORDS = {"metal_nut": "metal nut", "pcb1": "printed circuit board"}
SIZE = 64  # side of the images, pixels
SEEN_AT = 32  # side of the maps that are compared, pixels
SMALL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIZE, "layers": 8, "width": 48, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 6},
}


def small_backbone() -> CLIPBackbone:
    """A new random CLIP of 64 px, 4 x 4 patches, whose three widths differ; always the same numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(**SMALL)
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())


class Loan(NamedTuple):
    """A CLIP and what it was before a method had it."""

    backbone: CLIPBackbone
    seal: Seal


@cache
def lend() -> Loan:
    """The CLIP that candidates share until one of them is found to have altered it."""
    return Loan(backbone := small_backbone(), seal(backbone))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method in one of its protocols."""

    name: str
    protocol: str
    settings: Mapping[str, Any]

    @property
    def facts(self) -> registry.MethodFacts:
        """What its file says."""
        return registry.method(self.name)

    @property
    def cls(self) -> type[Method]:
        """Its class."""
        loaded: type[Method] = registry.load(self.facts, Method)
        return loaded

    @property
    def categories(self) -> list[str]:
        """Those it is made for: both, unless a model is one category's."""
        both = PROTOCOLS[self.protocol].joint or self.protocol == "zero_shot"
        return list(WORDS) if both else list(WORDS)[:1]

    def build(self, categories: Sequence[str], backbone: CLIPBackbone | None = None) -> Method:
        """The method as it begins, on the shared CLIP or another one."""
        torch.manual_seed(0)
        config = self.cls.Config(**{key: tuple(v) if isinstance(v, list) else v for key, v in self.settings.items()})
        return self.cls(backbone or lend().backbone, {each: WORDS[each] for each in categories}, config).eval()

    def prepare(self, first_seed: int = 0, backbone: CLIPBackbone | None = None) -> Method:
        """The method once it has seen what the protocol shows it; another seed shows it other shots."""
        method = self.build(self.categories, backbone)
        if PROTOCOLS[self.protocol].uses_shots:
            for seed, category in enumerate(self.categories, start=first_seed):
                method.adapt(noise_images(2, seed), category)
        return method

    def needs(self, name: str) -> bool:
        """Whether its file says that it needs something, in its settings."""
        return any(need.name == name and need.holds(self.settings) for need in self._needs)

    @property
    def _needs(self) -> list[Need]:
        return [read_need(self.facts, text) for text in self.cls.needs]

    @property
    def chooses_category(self) -> bool:
        """Whether a setting makes it choose among its categories what another value takes from the label."""
        return any(need.name == "category" and not need.holds(self.settings) for need in self._needs)

    @property
    def without_category(self) -> list[Self]:
        """The variants of it that need no category, among all values of those settings that can make it a need."""
        keys = dict.fromkeys(need.key for need in self._needs if need.name == "category" and need.key)
        values = product(*(self.facts.settings[key].choices or (False, True) for key in keys))
        made = [replace(self, settings={**self.settings, **dict(zip(keys, each, strict=True))}) for each in values]
        uses_shots = PROTOCOLS[self.protocol].uses_shots
        return [each for each in made if not each.needs("category") and (uses_shots or not each.needs("shots"))]

    @cached_property
    def prepared(self) -> Method:
        """The same, shared by checks that only predict."""
        return self.prepare()

    def keys(self, count: int) -> list[str]:
        """Categories of `count` images."""
        return [self.categories[i % len(self.categories)] for i in range(count)]


def candidates(name: str, words: Sequence[str] = ()) -> list[Candidate]:
    """A method in each of its protocols, one or more, but without shots only if its settings need none.

    Args:
        name: of a method.
        words: `method.key=value`, as of `bench run`: a variant of it.

    Raises:
        ConfigError: there is no such method, its file is broken or cannot be imported, or a word is wrong.
    """
    facts, said = registry.method(name), parse_words(words)
    registry.load(facts, Method)
    if strangers := [*said.chosen, *(group for group in said.values if group != "method")]:
        raise registry.ConfigError(f"a check takes words of the form method.key=value alone; got {strangers[0]}.")
    settings = compose([Layer("contract", {"sweep": {"methods": [name]}}), said])["method"][name]
    made = [Candidate(name, protocol, settings) for protocol in facts.protocols]
    return [each for each in made if PROTOCOLS[each.protocol].uses_shots or not each.needs("shots")]


def noise_images(count: int, seed: int = 7) -> Tensor:
    """`count` images of noise, (count, 3, 64, 64)."""
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


class Life(NamedTuple):
    """What a method says of the same test images, in their order, at each stage of its life under a plain Trainer."""

    tested: list[Kept]
    predicted: list[Prediction]
    reloaded: list[Prediction]  # by another instance, from a checkpoint of it
    revived: list[Prediction]  # likewise, from what `bench run` keeps of a fit


def run(cell: Cell, root: Path, *, turned: bool = False) -> list[Kept]:
    """Fit and test as `bench run` does, on images with labels as they are or `turned` round."""
    data, method = _begin(cell, root, turned=turned)
    device = torch.device("cpu")
    fit(method, _at(cell, root), data, device, NOBODY)
    return predict_tests(method, data, SEEN_AT, device)


def live(cell: Cell, root: Path) -> Life:
    """Fit, test, save, load and predict with plain trainers, on the same images."""
    data, method = _begin(cell, root)
    plain_trainer(max_epochs=method.max_epochs).fit(method, open_data(fitted_on(_at(cell, root)), SIZE))
    trainer = plain_trainer(callbacks=[predictions := Predictions(SEEN_AT)])
    trainer.test(method, data, verbose=False)
    trainer.save_checkpoint(root / "method.ckpt")
    again = type(method).load_from_checkpoint(root / "method.ckpt", backbone=lend().backbone)
    return Life(predictions.kept, *(_predict(each, data) for each in (method, again, _revive(method, root))))


def _revive(method: Method, root: Path) -> Method:
    """Another instance, from what is kept of a fit beside a record and, fitted on an auxiliary set, in `fits/`."""
    path = root / "fit.safetensors"
    path.write_bytes(dump(method, "a cell", float("inf")) or b"")
    with torch.random.fork_rng(devices=[]):
        again = type(method)(lend().backbone, method.categories, method.config)
    if method.fits_on == "auxiliary":
        again.load_state_dict(method.state_dict())
    restore(again, read(path, "a cell") or {})
    return again


def _predict(method: Method, data: AnomalyDataModule) -> list[Prediction]:
    predicted: Any = plain_trainer().predict(method, data)
    return list(predicted)


def plain_trainer(**settings: Any) -> Trainer:
    """A Trainer as any user makes one, that leaves no file behind."""
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **quiet, **settings)


def by_content(cell: Cell, root: Path, kept: Sequence[Kept]) -> dict[str, tuple[Tensor, Tensor]]:
    """Score and map of each test image by the digest of its file."""
    samples = open_data(target(_at(cell, root)), SIZE).test_samples
    found = {
        file_digest(samples[int(index)].image): (score, anomaly_map)
        for part in kept
        for index, score, anomaly_map in zip(part.indices, part.score, part.anomaly_map, strict=True)
    }
    if len(found) != len(samples):
        raise AssertionError(f"a run must measure all {len(samples)} test images; it measured {len(found)}.")
    return found


def _at(cell: Cell, root: Path) -> Cell:
    return replace(cell, where=replace(cell.where, root=str(root)))


def _begin(cell: Cell, root: Path, *, turned: bool = False) -> tuple[AnomalyDataModule, Method]:
    cell = _at(cell, root)
    write_images(root, turned=turned)
    torch.manual_seed(0)
    data = open_data(target(cell), SIZE, **loading(cell))
    method = build_method(cell, lend().backbone, data)
    method.max_epochs = min(method.max_epochs, 1)  # type: ignore[misc]
    return data, method


def small_cell(candidate: Candidate, folder: str) -> Cell:
    """A cell of a candidate on the images that `run` writes, cut short."""
    axes = {"methods": [candidate.name], "datasets": ["folder"], "protocols": [candidate.protocol]}
    few = {"size": SIZE, "train": 1, "normal": 1, "per_defect": 1}
    short = {"steps": 2} if "steps" in candidate.settings else {}
    values = {
        "sweep": {**axes, "shots": [2], "seeds": [0]},
        "dataset": {"folder": {"root": folder}, "procedural_auxiliary": few},
        "protocol": {"evaluation_size": SEEN_AT, "auxiliary": "procedural_auxiliary"},
        "method": {candidate.name: {**candidate.settings, **short}},
        "trainer": {"accelerator": "cpu", "batch_size": 1},
    }
    return make_plan(compose([Layer("contract", values)]), {"folder": tuple(WORDS)}).cells[0]


def write_images(root: Path, *, turned: bool) -> None:
    """Both categories in MVTec layout: three shots, and two test images of either label; the anomalous have masks."""
    rng = np.random.default_rng(0)
    mask = np.pad(np.full((32, 16), 255, np.uint8), ((8, SIZE - 40), (16, SIZE - 32)))
    turn = {"test/good": "test/broken", "test/broken": "test/good"} if turned else {}
    for category in WORDS:
        for place in ("train/good", "test/good", "test/broken"):
            label = turn.get(place, place)
            for number in range(3 if place == "train/good" else 2):
                _save(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), root / category / label / f"{number}.png")
                if label == "test/broken":
                    _save(mask, root / category / "ground_truth" / "broken" / f"{number}_mask.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
