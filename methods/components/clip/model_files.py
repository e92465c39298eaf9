"""Models that bring their own weights and description, by open_clip's schemas. No torch, so that a plan can name them.

`local-dir:PATH` is a folder with open_clip_config.json and a checkpoint; `hf-hub:ORG/NAME` is a repository with both.
"""

import hashlib
from pathlib import Path, PurePath
from typing import NamedTuple

from datamodules.components.content import file_digest

LOCAL_DIR, HF_HUB = "local-dir:", "hf-hub:"
SCHEMAS = (LOCAL_DIR, HF_HUB)
DESCRIPTION = "open_clip_config.json"
#: Names of checkpoints, the first that is there counts: the order of `open_clip.factory`.
CHECKPOINTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


class ModelFiles(NamedTuple):
    """What a model is read from."""

    description: Path
    checkpoint: Path


def local_files(name: str) -> ModelFiles:
    """The files of "local-dir:PATH".

    Raises:
        FileNotFoundError: there is no such folder, or it lacks one of both files; the message is meant for users.
    """
    folder = Path(name.removeprefix(LOCAL_DIR)).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"backbone.name={name} names a folder that does not exist: {folder.absolute()}.")
    checkpoints = [folder / each for each in CHECKPOINTS if (folder / each).is_file()]
    description = folder / DESCRIPTION
    if not description.is_file() or not checkpoints:
        missing = f"a checkpoint ({', '.join(CHECKPOINTS)})" if description.is_file() else DESCRIPTION
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise FileNotFoundError(f"{folder.absolute()} lacks {missing}; it holds {held}.")
    return ModelFiles(description, checkpoints[0])


def local_digest(name: str) -> str | None:
    """Sha256 of the content of both files of "local-dir:PATH"; None of any other name, and where a file is missing."""
    if not name.startswith(LOCAL_DIR):
        return None
    try:
        files = local_files(name)
    except FileNotFoundError:
        return None
    return hashlib.sha256(" ".join(map(file_digest, files)).encode()).hexdigest()


def model_label(name: str, sha256: str | None) -> str:
    """What tables call a model with a schema: "ORG/NAME", or its folder's name and 8 digits of its content."""
    if name.startswith(HF_HUB):
        return name.removeprefix(HF_HUB)
    folder = PurePath(name.removeprefix(LOCAL_DIR)).name
    return f"{folder}-{sha256[:8]}" if sha256 else folder
