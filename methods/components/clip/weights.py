"""Where the weights of a CLIP come from, and what is said when they do not come."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, get_args

import open_clip
import torch
from huggingface_hub import constants as hub
from open_clip.constants import HF_WEIGHTS_NAME
from open_clip.factory import load_state_dict
from open_clip.model import set_model_preprocess_cfg
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from datamodules.components.content import file_digest
from datamodules.components.sample import UserError
from methods.components.clip.model_files import DESCRIPTION, HF_HUB, LOCAL_DIR, SCHEMAS, ModelFiles, local_files
from methods.components.clip.published_weights import DEMO_FILE, EMBEDDED, PUBLISHED_FILES, Activation, PublishedFile

RANDOM = "random"
DEMO = "demo"
EMBEDDED_SEED = 20240813
WORDS = 49408  # of open_clip's own tokenizer; the last one ends a text
MOST_LOGIT_SCALE = 10.0  # logarithm of a factor of 22,000; CLIP is trained with at most 100
SUPPORTED = "open_clip's built-in CLIP: a ViT with a class token, a causal text transformer and its own BPE tokenizer"


class BackboneError(UserError):
    """The backbone cannot do what it was asked; the message says what is allowed and what came."""


def create_clip(
    name: str, pretrained: str, activation: str | None = None, forced_activation: str | None = None
) -> nn.Module:
    """An open_clip model in float32 on the CPU.

    Args:
        name: a model name of open_clip, "embedded", "local-dir:PATH" or "hf-hub:ORG/NAME".
        pretrained: a tag of that model or the path of a checkpoint; for "embedded", "demo", "random" or a path; ""
            for the last two, which bring their weights and their description.
        activation: that of the weights' training, "gelu" or "quick_gelu"; it must be said of a checkpoint that
            `PUBLISHED_FILES` does not know, unless the name is "embedded".
        forced_activation: that both towers run with against their training, as some released code does; None leaves
            them as trained.

    Raises:
        BackboneError: the name, tag or file is unknown, the tower is not supported, the file does not fit, the model
            has another activation than its weights or already the one that is forced on it, or the weights could not be
            fetched.
    """
    clip = _create(name, pretrained, activation)
    if forced_activation is not None:
        _force(clip, name, forced_activation)
    return clip


def _create(name: str, pretrained: str, activation: str | None) -> nn.Module:
    if name.startswith(SCHEMAS):
        return _from_files(name, pretrained, activation)
    config = model_config(name)
    _check_activation(name, config, activation, f"backbone.activation={activation} was said")
    if name == EMBEDDED and pretrained in (DEMO, RANDOM):  # also where a file is called so
        return _load(_initialise(config), DEMO_FILE) if pretrained == DEMO else _embedded(config)
    path = Path(pretrained).expanduser()
    if path.is_file():
        known = None if name == EMBEDDED else _identify(name, config, path, activation)
        return _load(_initialise(config), path, trusted=known is not None)
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
        "the images or patches are not square": len({*visual.image_size}) + len({*visual.patch_size}) > 2,
        f"the text tower pools by {checked.text_pool_type!r}": checked.text_pool_type not in {"argmax", "eos"},
        "the text tower has no causal mask": checked.attn_mask is None,
        "the text tower has no projection": checked.text_projection is None,
        "the text tower has a class token": len(checked.positional_embedding) != checked.context_length,
        f"the text tower has {checked.vocab_size} words, the tokenizer {WORDS}": checked.vocab_size < WORDS,
        f"texts end with token {checked.text_eos_id}, the tokenizer's with {WORDS - 1}": checked.text_pool_type == "eos"
        and checked.text_eos_id != WORDS - 1,
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
            f"Allowed: {EMBEDDED!r}, the {len(names)} names of open_clip.list_models(), and {' or '.join(SCHEMAS)}…."
        )
    config = open_clip.get_model_config(name)
    _check_config(name, config)
    return config


def _check_config(name: str, config: Mapping[str, Any]) -> None:
    """Raise a BackboneError if a description asks for what `check_supported` would refuse, or for another tokenizer."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    reasons = {
        "its image tower is timm's": vision.get("timm_model_name"),
        "its image tower is a ResNet": isinstance(vision.get("layers"), list),
        "its text tower is of another class": config.get("custom_text"),
        "its text tower is Hugging Face's": text.get("hf_model_name"),
        "its tokenizer is Hugging Face's": text.get("hf_tokenizer_name"),
        "its tokenizer has settings of its own": text.get("tokenizer_kwargs") or text.get("tokenizer_mode"),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise BackboneError(
            f"Unsupported backbone {name!r}: {'; '.join(found)}. Supported: {SUPPORTED}, for example ViT-B-16-plus-240."
        )


def _from_files(name: str, pretrained: str, activation: str | None) -> nn.Module:
    """The model of a schema, whose description says sizes, activation, mean and deviation."""
    if pretrained:
        raise BackboneError(f"backbone.pretrained must be empty, {name} brings its own weights; got {pretrained!r}.")
    try:
        files = _download(name) if name.startswith(HF_HUB) else local_files(name)
    except FileNotFoundError as error:
        raise BackboneError(str(error)) from error
    config, preprocessing = _read_description(files.description)
    _check_config(name, config)
    _check_activation(name, config, activation, f"backbone.activation={activation} was said")
    try:
        clip = _initialise(config)
    except Exception as error:  # open_clip checks no size, so layers of torch raise what they like
        raise BackboneError(f"{files.description} describes no CLIP: {type(error).__name__}: {error}") from error
    _load(clip, files.checkpoint)
    set_model_preprocess_cfg(clip, preprocessing)
    return clip


def _download(name: str) -> ModelFiles:
    repository = name.removeprefix(HF_HUB)
    if len([part for part in repository.split("/") if part]) != 2:
        raise BackboneError(f"backbone.name={name} must be {HF_HUB}ORG/NAME.")
    try:
        files = [download_pretrained_from_hf(repository, filename=each) for each in (DESCRIPTION, HF_WEIGHTS_NAME)]
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"Cannot get {name}. Its {DESCRIPTION} and weights are looked for in {hub.HF_HUB_CACHE} (moved by HF_HOME) "
            f"and downloaded when missing; without a network, copy both files of https://huggingface.co/{repository} "
            f"into a folder and give {LOCAL_DIR}FOLDER. Reason: {error}"
        ) from error
    return ModelFiles(*map(Path, files))


def _read_description(path: Path) -> tuple[dict[str, Any], dict[str, Sequence[float]]]:
    """The model of an open_clip_config.json, and mean and deviation of its images, by default OpenAI's."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path} is no readable JSON: {error}.") from error
    config = said.get("model_cfg") if isinstance(said, dict) else None
    parts = [config.get(key) for key in ("vision_cfg", "text_cfg")] if isinstance(config, dict) else []
    if not isinstance(config, dict) or "embed_dim" not in config or not all(isinstance(part, dict) for part in parts):
        raise BackboneError(f"{path} must hold a model_cfg with embed_dim, vision_cfg and text_cfg; got {config!r}.")
    return config, _read_preprocessing(path, said.get("preprocess_cfg") or {})


def _read_preprocessing(path: Path, said: Any) -> dict[str, Sequence[float]]:
    """Mean and deviation of a description."""
    if not isinstance(said, dict):
        raise BackboneError(f"{path}: preprocess_cfg must hold mean and std; got {said!r}.")
    found = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    found |= {key: said[key] for key in found if said.get(key) is not None}
    for key, values in found.items():
        numbers = isinstance(values, Sequence) and len(values) == 3 and all(isinstance(v, int | float) for v in values)
        if not numbers or not all(map(isfinite, values)) or (key == "std" and min(values) <= 0):
            above = " above 0" if key == "std" else ""
            raise BackboneError(f"{path}: preprocess_cfg.{key} must be three numbers{above}; got {values!r}.")
    return found


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
    if name.startswith(SCHEMAS):
        raise BackboneError(f"{reason}, but the {DESCRIPTION} of {name} says {_activation(config)}.")
    other = name.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{name}-quickgelu"
    known = other in open_clip.list_models()
    mend = f"Give the name {other}." if known else f"There is no {name} with {wanted}."
    raise BackboneError(f"{reason}, but the model {name} has {_activation(config)}. {mend}")


def _force(clip: Any, name: str, activation: str) -> None:
    """Give every block another activation than it was trained with."""
    check_choice("backbone.forced_activation", activation, get_args(Activation))
    wanted = QuickGELU if activation == "quick_gelu" else nn.GELU
    for tower in (clip.visual.transformer, clip.transformer):
        for block in tower.resblocks:
            if type(block.mlp.gelu) is wanted:
                raise BackboneError(f"backbone.forced_activation={activation} is what {name} has anyway; leave it out.")
            block.mlp.gelu = wanted()


def _activation(config: dict[str, Any]) -> Activation:
    return "quick_gelu" if config.get("quick_gelu") else "gelu"


def _initialise(config: Mapping[str, Any]) -> nn.Module:
    """A model with random weights that the caller's random state does not see."""
    with torch.random.fork_rng(devices=[]):
        clip: nn.Module = open_clip.CLIP(**config)
    return clip


def _load(clip: nn.Module, path: Path, *, trusted: bool = False) -> nn.Module:
    """`clip` with a checkpoint's weights; only a `trusted` one may hold code, as OpenAI's TorchScript does."""
    try:
        state = load_state_dict(str(path), device="cpu", weights_only=not trusted)
    except Exception as error:  # the unpickler may raise anything on a file of another kind
        raise BackboneError(
            f"Cannot read {path} as a checkpoint ({type(error).__name__}). Allowed: a safetensors file, or a state "
            "dict written by torch.save (no TorchScript)."
        ) from error
    wanted = clip.state_dict()
    if "logit_scale" in state and state["logit_scale"].numel() == 1:
        state["logit_scale"] = state["logit_scale"].reshape(wanted["logit_scale"].shape)
    wrong = [f"{key} is missing" for key in wanted if key not in state]
    wrong += [f"{key} is unknown" for key in state if key not in wanted]
    wrong += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    wrong = wrong or [f"{key} {problem}" for key, value in state.items() if (problem := _unusable(key, value))]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BackboneError(f"The checkpoint {path} does not fit the model: {'; '.join(wrong[:5])}{more}.")
    clip.load_state_dict(state)
    return clip


def _unusable(key: str, value: Tensor) -> str:
    """Why a tensor of a checkpoint cannot be a weight of a CLIP, in words; "" if it can."""
    if not value.is_floating_point():
        return f"holds {str(value.dtype)[6:]} instead of floating-point numbers"
    if not value.isfinite().all():
        return "holds NaN or infinity"
    if key == "logit_scale" and not 0 < float(value) < MOST_LOGIT_SCALE:
        return f"is {float(value):g}, a logarithm that must lie in (0, {MOST_LOGIT_SCALE:g})"
    return ""


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
