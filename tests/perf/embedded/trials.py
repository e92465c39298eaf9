"""What is tried with a backbone: hand-written prompts, learnt ones, free text vectors, and few-shot memory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.components.base import AnomalyDataModule
from datamodules.components.reading import SampleImages, collate, read_regions
from datamodules.procedural import Procedural
from datamodules.procedural_auxiliary import ProceduralAuxiliary
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.losses import local_terms
from methods.components.prediction import Prediction
from methods.components.prompts import Templates, ensemble, join, new_prompt, write_context
from methods.components.scoring import log_text_probability, to_map
from methods.winclip import ANOMALOUS_STATES, NORMAL_STATES, compose
from tests.perf.embedded.intervals import Trial, trial

SIDE = 144  # pixels at which maps and masks are compared
HAND_WRITTEN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "one pair": (("a photo of a flawless {}.",), ("a photo of a damaged {}.",)),
    "defect pair": (("a photo of a {} without defect.",), ("a photo of a {} with defect.",)),
    "good and bad": (("a good {}.",), ("a bad {}.",)),
    "WinCLIP states": (
        tuple(compose(NORMAL_STATES, "{}")),
        tuple(compose(ANOMALOUS_STATES, "{}")),
    ),
}


class Seen(NamedTuple):
    """A set of images and their frozen features."""

    pictures: Tensor  # (n, 3, SIDE, SIDE)
    image: Tensor  # (n, D)
    patches: Tensor  # (n, N, D)
    label: Tensor  # (n,) bool
    mask: Tensor  # (n, SIDE, SIDE) bool, as a test sees it
    defect: np.ndarray  # (n,) names, "good" of normal images
    grid: tuple[int, int]


def open_target(category: str, shots: int, seed: int) -> AnomalyDataModule:
    """A held-out category, with more test images than the default."""
    config = Procedural.Config(normal=24, per_defect=12)
    data = Procedural(None, (category,), image_size=SIDE, shots=shots, seed=seed, config=config)
    data.prepare_data()
    return data


def open_auxiliary() -> AnomalyDataModule:
    """The set that prompts are learnt on."""
    config = ProceduralAuxiliary.Config(normal=36, per_defect=16)
    names = ProceduralAuxiliary.categories
    data = ProceduralAuxiliary(None, names, image_size=SIDE, config=config)
    data.prepare_data()
    return data


@torch.no_grad()
def see(backbone: CLIPBackbone, data: AnomalyDataModule) -> Seen:
    """Class and last patch features of all test images."""
    parts, paths = [], []
    tests = SampleImages(data.test_samples, data.root, SIDE)
    for batch in DataLoader(tests, data.batch_size, collate_fn=collate):
        found = backbone.encode_image(batch.image, layers=(backbone.n_image_blocks,))
        parts.append((batch.image, found.image, found.patches[0], batch.label))
        paths.extend(batch.path)
    nothing = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    masks = [read_regions(s.mask, SIDE, "resized").ids > 0 if s.mask else nothing for s in data.test_samples]
    kinds = [torch.cat(kind) for kind in zip(*parts, strict=True)]
    return Seen(*kinds, torch.stack(masks), np.array([Path(path).parent.name for path in paths]), found.grid)


def predict(seen: Seen, text: Tensor, temperature: float) -> Prediction:
    """Scores and maps from texts (2, D) or one pair for each image (n, 2, D).

    The score is the mean of the class feature's probability and the largest of the patches'.
    """
    pairs = text.expand(len(seen.image), 2, -1)
    patches = log_text_probability(seen.patches, pairs, temperature).exp()
    whole = log_text_probability(seen.image.unsqueeze(1), pairs, temperature).exp().squeeze(1)
    return Prediction((whole + patches.amax(dim=1)) / 2, to_map(patches, seen.grid, (SIDE, SIDE)))


def judged(seen: Seen, said: Prediction) -> Trial:
    """The trial of one category."""
    maps = F.interpolate(said.anomaly_map.unsqueeze(1), (SIDE, SIDE), mode="bilinear", align_corners=False).squeeze(1)
    arrays = (seen.label, said.score.double(), maps, seen.mask)
    return trial(*(array.detach().numpy() for array in arrays))


def hand_written(backbone: CLIPBackbone, name: str, words: str) -> Tensor:
    """Features (2, D) of a set of HAND_WRITTEN for the words of an object."""
    return torch.stack([ensemble(backbone, [text.format(words) for text in texts]) for texts in HAND_WRITTEN[name]])


def objective(seen: Seen, rows: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of images, focal and Dice loss of pixels, as AnomalyCLIP (arXiv:2310.18961) adds them."""
    logits = seen.image[rows] @ text.T / temperature
    maps = to_map(log_text_probability(seen.patches[rows], text, temperature).exp(), seen.grid, (SIDE, SIDE))
    terms = local_terms(torch.stack([1 - maps, maps], dim=1), seen.mask[rows])
    return F.cross_entropy(logits, seen.label[rows].long()) + sum(terms, torch.zeros(()))


def fit(
    seen: Seen, parameters: Sequence[Tensor], text: Callable[[], Tensor], lr: float, seed: int, temperature: float
) -> Tensor:
    """Minimise the objective by 400 steps of Adam on 32 images; the text (2, D) at the end."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for rows in _batches(len(seen.image), 400, seed):
        optimizer.zero_grad()
        objective(seen, rows, text(), temperature).backward()
        optimizer.step()
    return text().detach()


def _batches(count: int, steps: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield torch.randint(count, (32,), generator=generator)


def free_vectors(backbone: CLIPBackbone, seen: Seen, start: Tensor, seed: int, temperature: float) -> Tensor:
    """The oracle: two vectors of the joint space, optimised freely from `start` (2, D)."""
    vectors = nn.Parameter(start.clone())
    return fit(seen, [vectors], lambda: F.normalize(vectors, dim=-1), 5e-3, seed, temperature)


def context_prompts(backbone: CLIPBackbone, seen: Seen, seed: int, temperature: float) -> Tensor:
    """CoOp (arXiv:2109.01134): 12 context tokens of each class before fixed words, learnt through the text tower."""
    torch.manual_seed(seed)
    words = "X " * 12
    templates = Templates(backbone, f"{words}object.", f"{words}damaged object.")
    contexts = nn.ParameterList([new_prompt(1, 12, backbone.text_width) for _ in range(2)])

    def text() -> Tensor:
        prompts = join(write_context(templates.normal, contexts[0]), write_context(templates.anomalous, contexts[1]))
        return backbone.encode_text(prompts)

    return fit(seen, list(contexts), text, 2e-3, seed, temperature)


@torch.no_grad()
def few_shot(build: Callable[[], Method], category: str, shots: int, seed: int, like: Seen) -> Trial:
    """A method that remembers k normal images, on the test images of its category."""
    method = build()
    if shots:
        method.adapt(open_target(category, shots, seed).shot_images(category), category)
    said = [method.predict(some, [category] * len(some)) for some in like.pictures.split(16)]
    maps = torch.cat([to_size(part.anomaly_map) for part in said])
    return judged(like, Prediction(torch.cat([part.score for part in said]), maps))


def to_size(maps: Tensor) -> Tensor:
    """Maps (n, h, w) at SIDE."""
    return F.interpolate(maps.unsqueeze(1).float(), (SIDE, SIDE), mode="bilinear", align_corners=False).squeeze(1)
