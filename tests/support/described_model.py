"""A small random CLIP in a folder, as open_clip's `local-dir:` reads it."""

import copy
import json

import open_clip
import torch
from safetensors.torch import save_file

CONFIG = {
    "embed_dim": 20,
    "vision_cfg": {"image_size": 48, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8, "no_ln_pre": True},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 2},
}
PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7]}


def describe(folder, config=None, preprocessing=None):
    said = {"model_cfg": config or CONFIG} | ({"preprocess_cfg": preprocessing} if preprocessing else {})
    (folder / "open_clip_config.json").write_text(json.dumps(said))


def write(folder, config=CONFIG, preprocessing=PREPROCESSING, file="open_clip_model.safetensors", half=False, seed=3):
    """A model in `folder`, and the name it has there."""
    folder.mkdir(parents=True, exist_ok=True)
    describe(folder, config, preprocessing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = open_clip.CLIP(**copy.deepcopy(config)).state_dict()
    state = {key: value.half() if half else value.contiguous() for key, value in state.items()}
    save_file(state, folder / file) if file.endswith(".safetensors") else torch.save(state, folder / file)
    return f"local-dir:{folder}"
