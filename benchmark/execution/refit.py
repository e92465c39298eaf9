"""Fits a method on shots that are named one by one, as a cell does, and again without one of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from benchmark.execution.build import name_method
from benchmark.execution.fitting import fit, quiet
from benchmark.execution.watch import NOBODY
from benchmark.request import registry
from benchmark.request.cell import Cell
from datamodules.components.given import GivenImages
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.precision import set_arithmetic

Shots = Mapping[str, Sequence[Path]]  # normal images by category, in the order in which a method sees them


def begin(cell: Cell, backbone: CLIPBackbone, words: Mapping[str, str]) -> Method:
    """The method of a cell before it has seen anything; the generators of the process are seeded by the cell."""
    quiet()
    set_arithmetic(cell.settings.protocol.precision)
    seed_everything(cell.seed, workers=True, verbose=False)
    return name_method(cell, backbone, words).to(backbone.mean.device)


def fit_on(cell: Cell, backbone: CLIPBackbone, words: Mapping[str, str], shots: Shots) -> Method:
    """The method as a cell fits it on these shots, or on the cell's auxiliary set; random generators are left alone."""
    with isolate_rng():
        method = begin(cell, backbone, words)
        seen = _open(cell, backbone, words, {category: shots.get(category, ()) for category in cell.categories})
        fitted = cell.fitted and {category: shots[category] for category in cell.fitted}
        shown = _open(cell, backbone, words, fitted) if fitted else seen
        fit(method, cell, seen, backbone.mean.device, NOBODY, shown)
        return method.eval()


def remember(
    cell: Cell, backbone: CLIPBackbone, words: Mapping[str, str], shots: Shots, learnt: Mapping[str, Tensor]
) -> Method:
    """A method whose parameters no shot has touched, with `learnt` ones, once it has seen these shots."""
    with isolate_rng():
        method = begin(cell, backbone, words)
        method.load_state_dict(learnt)
        Method.see_shots(method, _open(cell, backbone, words, shots))
        return method.eval()


def without(cell: Cell, fitted: Method, words: Mapping[str, str], shots: Shots, category: str, place: int) -> Method:
    """What `fitted` would be had it not seen the shot at `place` of a category."""
    left = {key: [path for i, path in enumerate(its) if (key, i) != (category, place)] for key, its in shots.items()}
    if registry.method(cell.method).fits_on == "shots":
        return fit_on(cell, fitted.backbone, words, left)
    return remember(cell, fitted.backbone, words, left, fitted.state_dict())


def _open(cell: Cell, backbone: CLIPBackbone, words: Mapping[str, str], shots: Shots) -> GivenImages:
    return GivenImages.of(shots, words, image_size=backbone.image_size, seed=cell.seed)
