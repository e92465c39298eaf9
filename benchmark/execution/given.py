"""Images as a caller has them (paths, folders, globs, PIL images, tensors) to files, which alone are read."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from datamodules.components.layouts import IMAGE_ENDINGS, is_hidden, is_image, list_images
from datamodules.components.roots import plain_path
from datamodules.components.sample import DataError

#: What is written as it is; any other mode becomes RGB, as reading would make it.
KEPT = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F")


def find_images(where: str | Path) -> list[Path]:
    """The images of a file, a folder at any depth, or a glob such as "parts/**/*.png", sorted by path.

    Raises:
        DataError: there are none.
    """
    path, text = plain_path(Path(where)), str(where)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = list_images(path)
    elif glob.has_magic(text):
        found = [plain_path(Path(each)) for each in glob.glob(str(Path(text).expanduser()), recursive=True)]  # noqa: PTH207  (a path that is itself absolute)
        found = sorted({each for each in found if each.is_file() and is_image(each)})
    else:
        raise DataError(f"there is no file, folder or match {text!r}.")
    if not found:
        raise DataError(f"{text!r} holds no image: read are {', '.join(IMAGE_ENDINGS)}, none that is hidden.")
    return found


def common_folder(paths: Sequence[Path], where: str | Path) -> Path:
    """What names of images are relative to: the folder that was asked for, else the one that holds all of them."""
    folder = plain_path(Path(where))
    if folder.is_dir() and all(path.is_relative_to(folder) and not is_hidden(path, folder) for path in paths):
        return folder
    return Path(os.path.commonpath([path.parent for path in paths]))


def to_pictures(images: Any) -> list[Path | Image.Image]:
    """What was given, one by one.

    Args:
        images: a path or folder or glob, a PIL image, a tensor (3, H, W) or (1, H, W), float in [0, 1] or uint8, or a
            batch of them (B, C, H, W), or a list of any of these.

    Raises:
        DataError: something else, or nothing.
    """
    if isinstance(images, str | Path):
        return list[Path | Image.Image](find_images(images))
    if isinstance(images, Image.Image):
        return [ImageOps.exif_transpose(images)]
    if isinstance(images, torch.Tensor):
        return [_from_tensor(each) for each in (images if images.ndim == 4 else [images])]
    if isinstance(images, list | tuple):
        return [picture for each in images for picture in to_pictures(each)]
    raise DataError(f"images must be paths, PIL images, tensors, or a list of them; got {type(images).__name__}.")


def to_file(picture: Path | Image.Image, folder: Path, number: int) -> Path:
    """The file of a picture; of one that has none, one made in `folder` that holds the same pixels."""
    if isinstance(picture, Path):
        return picture
    kept = picture if picture.mode in KEPT else picture.convert("RGB")
    path = folder / f"{number:04}.{'tiff' if kept.mode == 'F' else 'png'}"
    kept.save(path)
    return path


def _from_tensor(image: torch.Tensor) -> Image.Image:
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise DataError(f"a tensor must be (3, H, W) or (1, H, W), or a batch of such; got {tuple(image.shape)}.")
    values = image.detach().cpu()
    if values.dtype != torch.uint8:
        if not values.is_floating_point() or not bool(((values >= 0) & (values <= 1)).all()):
            raise DataError("a tensor of an image must be uint8, or float in [0, 1]; CLIP's mean is not subtracted.")
        values = (values.float() * 255).round().to(torch.uint8)
    pixels = values.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
