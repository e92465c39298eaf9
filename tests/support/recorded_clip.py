"""A file of recorded tensors, and the small CLIP whose weights stand in it."""

import json

import numpy as np
import open_clip
import torch

from methods.components.clip.backbone import CLIPBackbone


def read_fixture(path):
    """The sizes, and the tensors by name."""
    with np.load(path) as file:
        config = json.loads(str(file["config_json"]))
        return config, {k: torch.from_numpy(file[k]) for k in file.files if k != "config_json"}


def build_backbone(recorded, config):
    """With the weights that are recorded as `clip/NAME`."""
    weights = {k.removeprefix("clip/"): v for k, v in recorded.items() if k.startswith("clip/")}
    return open_recorded(config, weights)


def open_recorded(config, weights):
    """A backbone of the sizes in `config` with `weights`, open_clip's state dict."""
    vision, text = config["vision"], config["text"]
    clip = open_clip.CLIP(
        embed_dim=config["embed_dim"],
        quick_gelu=vision.get("activation", config.get("activation")) == "quick_gelu",
        vision_cfg={
            "image_size": vision.get("pretrain_image_size", config["image_size"]),
            "layers": vision["layers"],
            "width": vision["width"],
            "head_width": vision["width"] // vision["heads"],
            "patch_size": vision["patch"],
            "mlp_ratio": vision.get("mlp_ratio", 4.0),
        },
        text_cfg={"context_length": text["context"], "vocab_size": text["vocab"]}
        | {key: text[key] for key in ("width", "heads", "layers")},
    )
    clip.load_state_dict({name: value.float() for name, value in weights.items()})
    resize = "open_clip" if config.get("position_resize") == "bicubic_antialias" else "bilinear"
    return CLIPBackbone(clip, open_clip.SimpleTokenizer(), image_size=config["image_size"], position_resize=resize)
