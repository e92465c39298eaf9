"""A synthetic set as files in MVTec layout: written once, whole or not at all, and recognised when damaged."""

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from datamodules.components.rendering.catalogue import CATEGORIES, GOOD, RENDERING_VERSION, render
from datamodules.components.roots import CACHE_VARIABLE
from datamodules.components.sample import DataError

MANIFEST = "manifest.json"
ABANDONED = 3600.0  # seconds after which a folder that was being rendered belongs to a process that was killed
_log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """Images per category."""

    train: int = 20  # normal, for training
    normal: int = 12  # normal, for testing
    per_defect: int = 4  # of each defect type


class _Page(NamedTuple):
    """One file to write."""

    path: str  # below the folder, posix
    pixels: np.ndarray  # (H, W, 3) RGB or (H, W), uint8


def folder_name(seed: int, size: int, counts: Counts, categories: tuple[str, ...]) -> str:
    """The folder of a set: its name holds everything that changes a pixel or a file, the categories as a hash."""
    digits = hashlib.sha256(",".join(categories).encode()).hexdigest()[:8]
    return f"drawn-v{RENDERING_VERSION}-seed{seed}-{size}px-{'-'.join(map(str, counts))}-{digits}"


def materialise(
    folder: Path, *, seed: int = 0, size: int = 256, counts: Counts | None = None, categories: tuple[str, ...]
) -> None:
    """Render the synthetic set into `folder`, unless it is there, undamaged.

    A set that is there and matches its manifest is left alone. Else it is rendered into a temporary folder beside it,
    which then takes its name: two processes may do so at once, and one that is killed leaves nothing under the name.

    Args:
        folder: of the set; its parent is made if needed.
        seed: of the products' style and every image.
        size: side of the images, pixels.
        counts: images per category.
        categories: which to render.
    """
    counts = counts or Counts()
    if folder.exists():
        damage = find_damage(folder)
        if damage is None:
            return
        _log.warning("The synthetic set in %s is damaged and is rendered again: %s.", folder, damage)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(fresh, seed, size, counts, categories)
            _swap(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"the synthetic set cannot be rendered into {folder}: {error.strerror or error}. "
            f"{CACHE_VARIABLE} names another folder for what can be made again."
        ) from error


def _sweep(folder: Path) -> None:
    """Remove what killed processes left of the same set: nobody renders for as long as `ABANDONED`."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def find_damage(folder: Path) -> str | None:
    """The first damage of a written set, in words that name the file; None if there is none."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        listed = {name: (entry["bytes"], entry["file_sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    for name, (length, digest) in listed.items():
        if name not in found:
            return f"{name} is missing"
        content = (folder / name).read_bytes()
        if len(content) != length or hashlib.sha256(content).hexdigest() != digest:
            return f"{name} differs from its hash in {MANIFEST}"
    return next((f"{name} is not listed in {MANIFEST}" for name in sorted(found - listed.keys())), None)


def _pages(seed: int, size: int, counts: Counts, category: str) -> Iterator[_Page]:
    for index in range(counts.train):
        yield _Page(
            f"{category}/train/{GOOD}/{index:03d}.png",
            render(category, "train", GOOD, index, seed=seed, size=size).image,
        )
    tested = {GOOD: counts.normal} | dict.fromkeys(CATEGORIES[category].defects, counts.per_defect)
    for defect, count in tested.items():
        for index in range(count):
            rendered = render(category, "test", defect, index, seed=seed, size=size)
            yield _Page(f"{category}/test/{defect}/{index:03d}.png", rendered.image)
            if defect != GOOD:
                mask = rendered.mask.astype(np.uint8) * 255
                yield _Page(f"{category}/ground_truth/{defect}/{index:03d}_mask.png", mask)


def _write(folder: Path, seed: int, size: int, counts: Counts, categories: tuple[str, ...]) -> None:
    """Renders all files and, last, the manifest.

    The manifest hashes pixels, which are the same everywhere, and the bytes of each file, which depend on the version
    of the encoder and serve to find damage.
    """
    files = {}
    for category in categories:
        for page in _pages(seed, size, counts, category):
            shown = cv2.cvtColor(page.pixels, cv2.COLOR_RGB2BGR) if page.pixels.ndim == 3 else page.pixels
            content = cv2.imencode(".png", shown, [cv2.IMWRITE_PNG_COMPRESSION, 2])[1].tobytes()
            path = folder / page.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            files[page.path] = {
                "bytes": len(content),
                "file_sha256": hashlib.sha256(content).hexdigest(),
                "pixels_sha256": hashlib.sha256(page.pixels.tobytes()).hexdigest(),
            }
    about = {"version": RENDERING_VERSION, "seed": seed, "size": size, **counts._asdict()}
    (folder / MANIFEST).write_text(json.dumps({**about, "files": files}, indent=1))


def _swap(fresh: Path, folder: Path) -> None:
    """Give `fresh` the name `folder`; a damaged set there goes away, an undamaged one of another process stays."""
    fresh.chmod(0o755)
    try:
        fresh.rename(folder)
    except OSError:
        if find_damage(folder) is None:
            return
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        try:
            folder.rename(old / "set")
            fresh.rename(folder)
        except OSError:  # another process was faster
            if (damage := find_damage(folder)) is not None:
                raise RuntimeError(f"{folder} cannot be replaced: {damage}.") from None
        finally:
            shutil.rmtree(old, ignore_errors=True)


@cache
def materialise_once(folder: Path, seed: int, size: int, counts: Counts, categories: tuple[str, ...]) -> None:
    """`materialise` once per process: hashing the files of a set costs more than a small run."""
    materialise(folder, seed=seed, size=size, counts=counts, categories=categories)
