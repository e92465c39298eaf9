"""The caption, the words and the small CLIP that stand in a file of recorded tensors of FineGrainedAD."""

from pathlib import Path

import torch

from methods.components.captions.records import Caption, CaptionSet, Component, Vocabulary
from methods.finegrainedad.words import level_words
from tests.support.recorded_clip import open_recorded

CATEGORY = "bottle"
HEADS = 4  # of both towers; no weight tells it


def open_backbone(weights, side):
    """Its sizes are those of the weights; how many heads attend is not among them."""
    conv, token = weights["visual.conv1.weight"], weights["token_embedding.weight"]

    def blocks(prefix):
        return len({name.split("resblocks.")[1].split(".")[0] for name in weights if name.startswith(prefix)})

    vision = {"layers": blocks("visual.transformer"), "width": len(conv), "patch": conv.shape[-1]}
    text = {"layers": blocks("transformer"), "width": token.shape[1], "vocab": len(token)}
    text["context"] = len(weights["positional_embedding"])
    for tower in (vision, text):
        tower["heads"] = HEADS
    config = {"embed_dim": weights["text_projection"].shape[1], "image_size": side, "vision": vision, "text": text}
    return open_recorded(config, weights)


def bare(strings, learnt="N N N N "):
    """Recorded strings without learnt tokens and the full stop behind."""
    return [text.removeprefix(learnt).removesuffix(".") for text in strings]


def read_captions(record, strings, sampled):
    """The recorded caption as ours, with no word in its vocabulary that was not recorded."""
    own = {"colour": "color", "texture": "texture", "shape": "shape"}
    lists = [record[key] for key in ("entity", "entity_caption", "location", *own.values())]
    components = tuple(
        Component(entity, caption, 1, location, None, *words)
        for entity, caption, location, *words in zip(*lists, strict=True)
    )
    caption = Caption(record["caption"], record["foreground"], record["background"], record["relation"], components)
    words = {key: (*record[theirs], *bare(strings[f"{theirs[:3]}_h"])) for key, theirs in own.items() if key != "shape"}
    words["shape"] = (*record["shape"], *bare(strings["shp_h"]))
    locations = {*record["location"], *(location for _, location in sampled)}
    vocabulary = Vocabulary(**words, location={word: word for word in sorted(locations)})
    return CaptionSet(Path("recorded"), vocabulary, {CATEGORY: caption})


def seed_that_samples(captions, states, expected):
    """A seed with which each component gets the recorded state and location."""
    for seed in range(10_000):
        torch.manual_seed(seed)
        said = level_words(captions, CATEGORY, states, lambda words: words).components
        if [component.manual[0].lower() for component in said] == expected:
            return seed
    raise AssertionError(expected)


@torch.no_grad()
def load(method, recorded):
    method.seg.normal_ctx.copy_(recorded["normal_ctx"].unsqueeze(0))
    method.seg.anomalous_ctx.copy_(recorded["abnormal_ctx"].unsqueeze(0))
    method.seg.attribute_weights.copy_(torch.stack([recorded["attr_w_normal"], recorded["attr_w_abnormal"]]))
    maps = (*method.keys.normal, *method.keys.anomalous, method.keys.join)
    for linear, name in zip(maps, ("v1", "p1", "v2", "p2", "f"), strict=True):
        linear.weight.copy_(recorded[f"qf_W{name}"])
        linear.bias.copy_(recorded[f"qf_b{name}"])
