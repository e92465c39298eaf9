"""Where the weights of a CLIP come from, and what is said when they do not come."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import sqrt
from pathlib import Path
from typing import Any, get_args

import open_clip
import torch
from huggingface_hub import constants as hub
from open_clip.factory import load_state_dict
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from datamodules.components.content import file_digest
from datamodules.components.sample import UserError
from methods.components.clip.published_weights import DEMO_FILE, EMBEDDED, PUBLISHED_FILES, Activation, PublishedFile

RANDOM = "random"
DEMO = "demo"
EMBEDDED_SEED = 20240813
SUPPORTED = "open_clip's built-in CLIP: a ViT with a class token, a causal text transformer and its own BPE tokenizer"


class BackboneError(UserError):
    """The backbone cannot do what it was asked; the message says what is allowed and what came."""


def create_clip(name: str, pretrained: str, activation: str | None = None) -> nn.Module:
    """An open_clip model in float32 on the CPU.

    Args:
        name: a model name of open_clip, or "embedded".
        pretrained: a tag of that model or the path of a checkpoint; for "embedded", "demo", "random" or a path.
        activation: that of the weights' training, "gelu" or "quick_gelu"; it must be said of a checkpoint that
            `PUBLISHED_FILES` does not know, unless the name is "embedded".

    Raises:
        BackboneError: the name, tag or file is unknown, the tower is not supported, the file does not fit, the model
            has another activation than its weights, or the weights could not be fetched.
    """
    config = model_config(name)
    _check_activation(name, config, activation, f"backbone.activation={activation} was said")
    if name == EMBEDDED and pretrained in (DEMO, RANDOM):  # also where a file is called so
        return _from_file(config, DEMO_FILE) if pretrained == DEMO else _embedded(config)
    path = Path(pretrained).expanduser()
    if path.is_file():
        known = None if name == EMBEDDED else _identify(name, config, path, activation)
        return _from_file(config, path, trusted=known is not None)
    if "/" in pretrained or path.suffix in {".pt", ".pth", ".bin", ".safetensors", ".ckpt"}:
        raise BackboneError(f"backbone.pretrained names a checkpoint that does not exist: {path.absolute()}.")
    if name == EMBEDDED:
        raise BackboneError(
            f"The {EMBEDDED} backbone has the weights {DEMO!r}, {RANDOM!r} or a checkpoint's path; got {pretrained!r}."
        )
    return _from_tag(name, pretrained, config)


def check_choice(field: str, value: str, allowed: Sequence[str]) -> None:
    """Raise a BackboneError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise BackboneError(f"{field} is one of {', '.join(allowed)}; got {value!r}.")


def check_supported(clip: nn.Module) -> None:
    """Raise a BackboneError unless `clip` has the structure the towers read."""
    if type(clip) is not open_clip.CLIP:
        raise BackboneError(f"Unsupported model, a {type(clip).__name__}. Supported: {SUPPORTED}.")
    checked: Any = clip
    visual = checked.visual
    if not isinstance(visual, VisionTransformer):
        raise BackboneError(f"Unsupported image tower, a {type(visual).__name__}. Supported: {SUPPORTED}.")
    blocks = [*visual.transformer.resblocks, *checked.transformer.resblocks]
    reasons = {
        "the image tower pools by attention": visual.attn_pool is not None,
        f"the image tower pools by {visual.pool_type!r}": visual.pool_type != "tok",
        f"the text tower pools by {checked.text_pool_type!r}": checked.text_pool_type not in {"argmax", "eos"},
        "the text tower has no causal mask": checked.attn_mask is None,
        "a block is not a plain residual attention block": any(type(b) is not ResidualAttentionBlock for b in blocks),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise BackboneError(f"Unsupported model: {'; '.join(found)}. Supported: {SUPPORTED}.")


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted names, types, shapes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def model_config(name: str) -> dict[str, Any]:
    """open_clip's description of a model, or that of "embedded"; BackboneError if it is unknown or not supported."""
    if name == EMBEDDED:
        config: dict[str, Any] = json.loads(Path(__file__).with_name("embedded.json").read_text())
        return config
    names = open_clip.list_models()
    if name not in names:
        near = get_close_matches(name, names, n=5, cutoff=0.4)
        raise BackboneError(
            f"Unknown backbone {name!r}. Nearest: {', '.join(near) or 'none'}. "
            f"Allowed: {EMBEDDED!r} and the {len(names)} names of open_clip.list_models()."
        )
    config = open_clip.get_model_config(name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if (
        "timm_model_name" in vision
        or isinstance(vision["layers"], list)
        or config.get("custom_text")
        or "hf_model_name" in text
        or "hf_tokenizer_name" in text
    ):
        raise BackboneError(f"Unsupported backbone {name!r}. Supported: {SUPPORTED}, for example ViT-B-16-plus-240.")
    return config


def _from_tag(name: str, tag: str, config: dict[str, Any]) -> nn.Module:
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag_config = open_clip.get_pretrained_cfg(name, tag)
    if not tag_config:
        near = get_close_matches(tag, tags, n=3, cutoff=0.4)
        raise BackboneError(
            f"Unknown weights {tag!r} of {name}. Nearest: {', '.join(near) or 'none'}. "
            f"Allowed: {', '.join(tags) or 'no tag'}, or the path of a checkpoint."
        )
    if bool(tag_config.get("quick_gelu")) != bool(config.get("quick_gelu")):
        other = name.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{name}-quickgelu"
        raise BackboneError(f"The weights {tag!r} were trained with the activation of {other}; got the name {name}.")
    try:
        clip: nn.Module = open_clip.create_model(name, pretrained=tag, precision="fp32", device="cpu")
    except (RuntimeError, OSError) as error:
        raise BackboneError(
            f"Cannot get the weights {tag!r} of {name}. They are looked for in {hub.HF_HUB_CACHE} (moved by HF_HOME) "
            "and downloaded when missing; without a network, give the path of a checkpoint as backbone.pretrained. "
            f"Reason: {error}"
        ) from error
    return clip


def _identify(name: str, config: dict[str, Any], path: Path, stated: str | None) -> PublishedFile | None:
    """What a checkpoint is, if its bytes are known; BackboneError unless its activation is that of the model."""
    known = PUBLISHED_FILES.get(file_digest(path))
    if known is not None:
        _check_activation(name, config, known.activation, f"{path} is {known.label}, trained with {known.activation}")
    elif stated is None:
        raise BackboneError(
            f"Nothing in {path} tells with which activation it was trained, and with another one its features are "
            "wrong without an error. Say backbone.activation=gelu or backbone.activation=quick_gelu, as its "
            f"publisher does; {name} has {_activation(config)}."
        )
    return known


def _check_activation(name: str, config: dict[str, Any], wanted: str | None, reason: str) -> None:
    """Raise a BackboneError unless the model `name` has the activation `wanted`, if one is."""
    if wanted is None:
        return
    check_choice("backbone.activation", wanted, get_args(Activation))
    if wanted == _activation(config):
        return
    other = name.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{name}-quickgelu"
    known = other in open_clip.list_models()
    mend = f"Give the name {other}." if known else f"There is no {name} with {wanted}."
    raise BackboneError(f"{reason}, but the model {name} has {_activation(config)}. {mend}")


def _activation(config: dict[str, Any]) -> Activation:
    return "quick_gelu" if config.get("quick_gelu") else "gelu"


def _from_file(config: dict[str, Any], path: Path, *, trusted: bool = False) -> nn.Module:
    """The model with a checkpoint's weights; only a `trusted` one may hold code, as OpenAI's TorchScript does."""
    try:
        state = load_state_dict(str(path), device="cpu", weights_only=not trusted)
    except Exception as error:  # the unpickler may raise anything on a file of another kind
        raise BackboneError(
            f"Cannot read {path} as a checkpoint ({type(error).__name__}). Allowed: a safetensors file, or a state "
            "dict written by torch.save (no TorchScript)."
        ) from error
    with torch.random.fork_rng(devices=[]):
        clip: nn.Module = open_clip.CLIP(**config)
    wanted = clip.state_dict()
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(wanted["logit_scale"].shape)
    wrong = [f"{key} is missing" for key in wanted if key not in state]
    wrong += [f"{key} is unknown" for key in state if key not in wanted]
    wrong += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BackboneError(f"The checkpoint {path} does not fit the model: {'; '.join(wrong[:5])}{more}.")
    clip.load_state_dict(state)
    return clip


def _embedded(config: dict[str, Any]) -> nn.Module:
    """Seeded weights from uniform bits alone, whose bytes depend neither on the process nor on vector instructions.

    Three choices let random features tell structure from place and brightness: filters of patches without a constant
    part, weak positions, and residual branches that do not drown their stream.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        clip: nn.Module = open_clip.CLIP(**config)
        torch.manual_seed(EMBEDDED_SEED)
        for name, weight in clip.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif name == "visual.class_embedding" or weight.ndim > 1:
                fan_in = weight[0].numel() if weight.ndim > 1 else len(weight)
                weight.uniform_(-1, 1)  # multiples of 2⁻²⁴, whose double sums are exact in any order
                if name == "visual.conv1.weight":
                    weight.copy_(weight.double() - weight.double().mean(dim=(2, 3), keepdim=True))
                weight.mul_(sqrt(3 / fan_in))  # variance 1 / fan_in
            if name.endswith(("attn.out_proj.weight", "mlp.c_proj.weight")):
                weight.mul_(0.3)
    return clip
