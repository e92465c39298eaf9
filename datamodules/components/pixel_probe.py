"""What this machine's Pillow and OpenCV make of a few committed files: versions may differ, pixels must not."""

import hashlib
from functools import cache
from itertools import product
from pathlib import Path

from datamodules.components.decoding import decode_image, decode_mask, decode_regions
from datamodules.components.sample import DataError

#: Small pictures with noise and edges, all beside each other in the package.
FOLDER = Path(__file__).parent / "probe"
IMAGES = (
    "landscape.png",
    "landscape_grey.jpg",
    "palette.png",  # with transparency
    "portrait.jpg",  # chroma at half the resolution
    "portrait.png",
    "rgba.png",
    "sixteen_bit.png",
    "square.png",
)
MASKS = ("mask.png", "palette.png")  # the first has regions that break, merge or vanish
SIZES = (37, 97)  # px; below and above the sides of the pictures
READERS = {
    "image": (decode_image, IMAGES),
    "mask": (decode_mask, MASKS),
    "regions resized": (lambda path, size: decode_regions(path, size, "resized")[0], MASKS),
    "regions native": (lambda path, size: decode_regions(path, size, "native")[0], MASKS),
}


@cache
def pixel_probe() -> str:
    """The sha256, 64 hexadecimal digits, of what the readers of images, masks and regions make of the probe.

    Equal on two machines if and only if they decode, resize and label these files to the same pixels. A file that a
    reader refuses counts as refused. Computed once per process.

    Raises:
        OSError: a file of the probe is missing from the installed package.
    """
    total = hashlib.sha256()
    for reader, (read, names) in READERS.items():
        for name, size in product(names, SIZES):
            total.update((FOLDER / name).read_bytes())
            try:
                pixels = read(FOLDER / name, size)
                seen = str((pixels.shape, pixels.dtype)).encode() + pixels.tobytes()
            except DataError:
                seen = b"refused"
            total.update(f"{name} {reader} {size} {len(seen)} ".encode() + seen)
    return total.hexdigest()
