"""FineGrainedAD on a tiny backbone, its shots, and what it is trained on."""

import torch

from datamodules.components.sample import Batch
from methods.finegrainedad.method import FineGrainedAD

SIZE = 64
WORDS = {"metal_nut": "metal nut", "pcb1": "printed circuit board"}


def build(backbone, categories=("metal_nut",), seed=0, scale=1, cls=FineGrainedAD, **settings):
    """Contexts larger than initialised, so that they matter."""
    torch.manual_seed(seed)
    settings = {"map_size": 32} | settings
    method = cls(backbone, {key: WORDS.get(key, key) for key in categories}, cls.Config(**settings))
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if "ctx" in name:
                parameter.mul_(10)
    for category in categories:
        method.adapt(noise_images(2, [*WORDS, *categories].index(category), scale * SIZE), category)
    return method.eval()


def noise_images(count, seed=7, side=SIZE):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def batch_of(*categories):
    """Only categories count: images of another size could not even be encoded."""
    nothing = torch.zeros(len(categories), 1, 1, dtype=torch.bool)
    images = torch.full((len(categories), 3, 1, 1), torch.nan)
    return Batch(images, nothing, nothing.any(dim=(1, 2)), list(categories), ["0.png"] * len(categories))
