"""The photographs that the image tower learns from: where they come from, and which of them count.

All come with ordinary packages whose licences allow any use; none is of a set that the suite tests on.
"""

import hashlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from benchmark.request import registry
from benchmark.request.registry import ConfigError

LEAST = 224  # pixels, of the shorter side
_LARGE = 768  # pixels, shorter side at which an image is judged
_STEP = 3  # grey levels within 3 x 3 pixels up to which they count as smooth
SMOOTH = 0.45  # share of smooth pixels up to which an image counts as a photograph
_IMAGES = {".jpg", ".jpeg", ".png", ".tga", ".webp"}
_ARCHIVES = {".pk3"}
#: Ends of names that say what an image of a game is besides a photograph: directions, heights, lamps, screens, …
_MAPS = (
    "_nm", "_norm", "_normal", "_n", "_bump", "_height", "_gloss", "_glow", "_sm", "_s", "_spec", "_mask", "_local",
    "_pls", "_luma", "_reflect", "_pants", "_shirt", "_alpha", "_screenshot", "_d_s", "_g", "_blend",
)  # fmt: skip


class Source(NamedTuple):
    """A package with photographs among its files."""

    package: str
    installer: str  # "apt-get", below whose root `places` lie, or "pip", below whose package they lie
    licence: str
    places: tuple[str, ...]  # patterns of files


SOURCES = (
    Source("mate-backgrounds", "apt-get", "GPL-2+, CC-BY-SA-4.0", ("usr/share/backgrounds/mate/**/*",)),
    Source(
        "lomiri-wallpapers-20.04",
        "apt-get",
        "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0",
        tuple(f"usr/share/backgrounds/{name}_by_*" for name in ("Fossa", "Infinite-Sea", "Kleiber", "Painting-Colors")),
    ),
    Source(
        "lomiri-wallpapers-16.04",
        "apt-get",
        "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0",
        ("usr/share/backgrounds/*_by_*",),
    ),
    Source("plasma-workspace-wallpapers", "apt-get", "GPL-2+", ("usr/share/wallpapers/**/*",)),
    Source("nexuiz-textures", "apt-get", "GPL-2+", ("usr/share/games/nexuiz/data/*",)),
    Source(
        "ufoai-textures",
        "apt-get",
        "GPL-2+, GPL-3+, CC-BY-3.0, CC-BY-SA-3.0, public domain",
        ("usr/share/games/ufoai/base/*",),
    ),
    Source(
        "redeclipse-data",
        "apt-get",
        "CC-BY-SA-3.0+, CC-BY-3.0, CC0-1.0, Zlib, public domain",
        ("usr/share/games/redeclipse/data/**/*",),
    ),
    Source(
        "supertuxkart-data",
        "apt-get",
        "CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-3.0, CC0, GPL-2+, public domain",
        ("usr/share/games/supertuxkart/data/**/*",),
    ),
    Source("scikit-learn", "pip", "CC-BY-2.0", ("datasets/images/*",)),
    Source("scikit-image", "pip", "BSD-3-Clause, CC0, CC-BY-2.0", ("data/*",)),
)
_MODULES = {"scikit-learn": "sklearn", "scikit-image": "skimage"}
#: Packages that hold what the suite tests on.
_TESTED = ("elpv_dataset", "conformal_clip_data")


class Photograph(NamedTuple):
    """One image file, or one member of an archive."""

    package: str
    path: str  # below the root or the Python package, with the member's name after "!"
    sha256: str
    height: int  # pixels
    width: int  # pixels


def find(root: Path, index: Path) -> list[Photograph]:
    """The photographs of all sources that are installed, in one order on every machine.

    An image counts if its shorter side has `LEAST` pixels and at most `SMOOTH` of it is smooth at `_LARGE` pixels: what
    is drawn with flat or fading colours is not, nor is what is out of focus. The same bytes count once.

    Args:
        root: below which Debian's packages lie, "/" after an ordinary installation.
        index: file that remembers what was found while names and sizes stay as they are.

    Raises:
        ConfigError: no source is installed, or a file lies in a data set that the suite tests on.
    """
    files = list(_files(root))
    if not files:
        raise ConfigError(f"No photographs below {root}. Install some: {'; '.join(missing(root))}.")
    listing = [[package, name, size] for package, name, _, size in files]
    if index.exists():
        kept = json.loads(index.read_text())
        if kept["listing"] == listing:
            return [Photograph(*each) for each in kept["photographs"]]
    found: list[Photograph] = []
    seen: set[str] = set()
    for (package, name, _, _), data in zip(files, _contents(files), strict=True):
        digest = hashlib.sha256(data).hexdigest()
        image = None if digest in seen else decode(data)
        if image is not None and min(image.shape[:2]) >= LEAST and smooth(_judged(image)) <= SMOOTH:
            seen.add(digest)
            found.append(Photograph(package, name, digest, *image.shape[:2]))
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(json.dumps({"listing": listing, "photographs": found}))
    return found


def missing(root: Path) -> list[str]:
    """The commands that install the sources that are not there."""
    lacking: dict[str, list[str]] = {}
    for source in SOURCES:
        if not any(_of(source, root)):
            lacking.setdefault(source.installer, []).append(source.package)
    return [f"{installer} install {' '.join(packages)}" for installer, packages in lacking.items()]


def read(root: Path, photograph: Photograph) -> np.ndarray:
    """The pixels, (H, W, 3) uint8, RGB.

    Raises:
        ConfigError: the file is no longer what it was.
    """
    source = next(each for each in SOURCES if each.package == photograph.package)
    folder = _folder(source, root)
    assert folder is not None
    data = _bytes(folder / photograph.path.partition("!")[0], photograph.path)
    image = decode(data)
    if image is None or hashlib.sha256(data).hexdigest() != photograph.sha256:
        raise ConfigError(f"{photograph.path} of {photograph.package} is no longer the image that was listed.")
    return image


def list_hash(photographs: list[Photograph]) -> str:
    """Sha256 of the contents, in their order."""
    return hashlib.sha256(" ".join(each.sha256 for each in photographs).encode()).hexdigest()


def smooth(image: np.ndarray) -> float:
    """Share of pixels of (H, W, 3) uint8 around which 3 x 3 pixels differ by at most `_STEP` in every channel."""
    square = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(image, square).astype(np.int16) - cv2.erode(image, square)
    return float((spread.max(axis=2) <= _STEP).mean())


def decode(data: bytes) -> np.ndarray | None:
    """The pixels of a file, (H, W, 3) uint8, RGB, a transparent part on grey; None of what is no image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if "A" not in image.getbands() and "transparency" not in image.info:
                return np.asarray(image.convert("RGB"))
            ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
            return np.asarray(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))
    except (OSError, ValueError, SyntaxError):  # what Pillow raises on a broken file
        return None


def _judged(image: np.ndarray) -> np.ndarray:
    scale = _LARGE / min(image.shape[:2])
    if scale >= 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _files(root: Path) -> Iterator[tuple[str, str, Path, int]]:
    """Package, name, file and size of everything that might be a photograph, each file once."""
    seen = set()
    for source in SOURCES:
        for name, place, size in _of(source, root):
            if name not in seen:
                seen.add(name)
                yield source.package, name, place, size


def _of(source: Source, root: Path) -> Iterator[tuple[str, Path, int]]:
    folder = _folder(source, root)
    if folder is None:
        return
    for place in source.places:
        for path in sorted(folder.glob(place)):
            if path.is_file() and not path.is_symlink():
                _refuse_tested(path)
                yield from _members(path, path.relative_to(folder).as_posix())


def _members(path: Path, name: str) -> Iterator[tuple[str, Path, int]]:
    if path.suffix.lower() in _ARCHIVES:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.infolist(), key=lambda each: each.filename):
                if _may_be(member.filename):
                    yield f"{name}!{member.filename}", path, member.file_size
    elif _may_be(name):
        yield name, path, path.stat().st_size


def _may_be(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in _IMAGES and not path.stem.lower().endswith(_MAPS)


def _bytes(path: Path, name: str) -> bytes:
    member = name.partition("!")[2]
    if not member:
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _contents(files: Sequence[tuple[str, str, Path, int]]) -> Iterator[bytes]:
    """The bytes of each file, an archive opened once."""
    for place, members in groupby(files, key=lambda each: each[2]):
        if place.suffix.lower() in _ARCHIVES:
            with zipfile.ZipFile(place) as archive:
                yield from (archive.read(name.partition("!")[2]) for _, name, _, _ in members)
        else:
            yield from (place.read_bytes() for _ in members)


def _folder(source: Source, root: Path) -> Path | None:
    """Where the places of a source are counted from."""
    if source.installer == "apt-get":
        return root
    found = importlib.util.find_spec(_MODULES[source.package])
    return Path(found.origin).parent if found and found.origin else None


@cache
def _tested() -> frozenset[str]:
    """Folders and packages of what the suite tests on."""
    names = registry.names("dataset")
    return frozenset({*_TESTED, *names, *(registry.dataset(name).folder_name.lower() for name in names)} - {""})


def _refuse_tested(path: Path) -> None:
    """Raise a ConfigError if a file belongs to a data set of the suite."""
    if named := _tested() & {part.lower() for part in path.resolve().parts}:
        raise ConfigError(f"{path} lies in {sorted(named)[0]}, which the suite tests on: nothing is learnt from it.")
