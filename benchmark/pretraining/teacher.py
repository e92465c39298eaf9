"""The teacher: an image tower trained on photographs, whose features a student of the embedded kind learns."""

from typing import Any

import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from torch import Tensor

from benchmark.request.registry import ConfigError
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.model_files import LOCAL_DIR
from methods.components.clip.weights import WORDS

TIMM = "timm:"


def open_teacher(name: str, grid: int) -> CLIPBackbone:
    """The teacher by "local-dir:PATH", a folder of open_clip, or "timm:NAME", a plain vision transformer of timm.

    Args:
        name: the schema and what it names.
        grid: patches along a side of the images that it will see.

    Raises:
        ConfigError: another schema, or a model that is no plain vision transformer, or no weights of it.
        BackboneError: the folder holds no model.
    """
    if name.startswith(LOCAL_DIR):
        return _of_grid(CLIPBackbone.load(name, "").clip, grid)
    if not name.startswith(TIMM):
        raise ConfigError(f"--teacher must be {LOCAL_DIR}PATH or {TIMM}NAME, got {name!r}.")
    import timm  # noqa: PLC0415  (seconds)

    try:
        model = timm.create_model(name.removeprefix(TIMM), pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigError(f"Cannot get the weights of {name}: {error}") from error
    return _of_grid(clip_of_timm(model), grid)


def _of_grid(clip: Any, grid: int) -> CLIPBackbone:
    return CLIPBackbone(clip, open_clip.SimpleTokenizer(), image_size=grid * clip.visual.patch_size[0])


def clip_of_timm(model: Any) -> open_clip.CLIP:
    """A timm `VisionTransformer` as the image tower of an open_clip model, whose text tower is a stub.

    The bias of the first layer goes into the positions, which timm adds right after it.

    Raises:
        ConfigError: the model is not built like open_clip's towers.
    """
    state: dict[str, Tensor] = model.state_dict()
    width, blocks = model.embed_dim, len(model.blocks)
    config = {
        "image_size": model.patch_embed.img_size[0],
        "patch_size": model.patch_embed.patch_size[0],
        "width": width,
        "layers": blocks,
        "head_width": width // model.blocks[0].attn.num_heads,
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "no_ln_pre": True,
    }
    text = {"context_length": 8, "vocab_size": WORDS, "width": 8, "heads": 1, "layers": 1}
    clip = open_clip.CLIP(embed_dim=width, vision_cfg=config, text_cfg=text)
    wanted = clip.visual.state_dict()
    given = {_name(key): value for key, value in state.items() if not key.startswith(("head", "fc_norm"))}
    bias = given.pop("patch_embed.proj.bias", torch.zeros(width))
    given["proj"] = torch.eye(width)
    try:
        positions = given["positional_embedding"].squeeze(0).clone()
        positions[1:] += bias
        given |= {"positional_embedding": positions, "class_embedding": given["class_embedding"].flatten()}
        clip.visual.load_state_dict(given)
    except (KeyError, RuntimeError) as error:
        strange = ", ".join(sorted(given.keys() ^ wanted.keys())[:5])
        raise ConfigError(
            f"The model is no plain vision transformer with a class token (differs in {strange})."
        ) from error
    for part in clip.visual.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = model.norm.eps
    set_model_preprocess_cfg(clip, {key: list(model.default_cfg[key]) for key in ("mean", "std")})
    return clip


def _name(key: str) -> str:
    """open_clip's name of a weight of timm."""
    for theirs, ours in (
        ("cls_token", "class_embedding"),
        ("pos_embed", "positional_embedding"),
        ("patch_embed.proj.weight", "conv1.weight"),
        ("blocks.", "transformer.resblocks."),
        (".norm1.", ".ln_1."),
        (".norm2.", ".ln_2."),
        (".attn.qkv.", ".attn.in_proj_"),
        (".attn.proj.", ".attn.out_proj."),
        (".mlp.fc1.", ".mlp.c_fc."),
        (".mlp.fc2.", ".mlp.c_proj."),
    ):
        key = key.replace(theirs, ours)
    return f"ln_post.{key.removeprefix('norm.')}" if key.startswith("norm.") else key
