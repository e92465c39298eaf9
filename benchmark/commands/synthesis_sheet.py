"""`bench show synthesis`: a sheet of AnoPLe's synthetic anomalies on a data set's normal images."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from benchmark.execution.data import DataSpec, open_data
from benchmark.records.store import write_atomic
from benchmark.request.merging import Layer
from benchmark.request.on_disk import categories_of
from benchmark.request.settings import compose, parse_words
from methods.components.synthesis.pipeline import Synthesis, Synthetic
from methods.components.synthesis.views import cut_masks, cut_views, view_labels

#: Side of the images that are edited, of their pictures on the sheet, and of the token grid; the paper's CLIP.
SIDE, PICTURE, TOKENS = 480, 256, 15
#: Categories where none are named.
ROWS = 8

_GAP, _MARGIN, _HEAD = 8, 132, 70  # pixels between pictures, left of them for names, above them for titles
_PAPER, _INK, _MARK, _ANOMALOUS = (255, 255, 255), (20, 20, 20), (255, 0, 255), (220, 20, 20)
_LEGEND = "Magenta: around the mask, or the tokens that get noise. Red frame: a view that counts as anomalous."


def write_sheet(
    dataset: str, words: Sequence[str], categories: list[str] | None, output: Path, textures: str | None
) -> Path:
    """Write the sheet: a row for each category, a column for each kind of anomaly, and the views.

    Args:
        dataset: its normal images are edited, one of each category; a name, or NAME=PATH of your own images.
        words: `key=value`, settings of the data set.
        categories: None takes the first eight.
        output: the PNG; its folder is made.
        textures: a folder of textures beside the patches of the images; None takes patches of another category.

    Returns:
        `output`.

    Raises:
        UserError: no such data set or category, no data, no textures, or the file cannot be written.
    """
    images = _normal_images(dataset, words, categories)
    normals = [*images.values()]
    columns = _columns(textures)
    rows = [_row(normals[row], normals[row - 1], columns, row) for row in range(len(normals))]
    titles = ["normal", *columns, "noise on tokens", "whole view of column 2", "its four tiles"]
    sheet = _compose(f"{dataset}: synthetic anomalies, seed 0. {_LEGEND}", titles, list(images), rows)
    write_atomic(output, cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())
    return output


def _normal_images(dataset: str, words: Sequence[str], categories: list[str] | None) -> dict[str, Tensor]:
    """One normal training image of each category, (3, SIDE, SIDE)."""
    settings = compose([Layer("", {"sweep": {"datasets": [dataset]}}), parse_words(words)])
    (name,) = settings.sweep.datasets
    values = dict(settings["dataset"][name])
    root = values.pop("root")
    chosen = tuple(categories or categories_of(name, root, values)[:ROWS])
    data = open_data(DataSpec(name, root, values, chosen, shots=1), SIDE)
    return {category: data.shot_images(category)[0] for category in data.chosen}


def _columns(textures: str | None) -> dict[str, Synthesis]:
    own, second = Synthesis(kinds=("perlin",)), Synthesis(kinds=("perlin",), textures=textures)
    return {
        "Perlin, own patches": own,
        "Perlin, texture folder" if textures else "Perlin, other image": second,
        "CutPaste": Synthesis(kinds=("cutpaste",)),
        "CutPaste scar": Synthesis(kinds=("scar",)),
    }


def _row(image: Tensor, other: Tensor, columns: dict[str, Synthesis], row: int) -> list[np.ndarray]:
    """The pictures of one category, (PICTURE, PICTURE, 3) each."""
    edits = [
        synthesis.edit(image, (0, row, column), other if column == 1 else None)
        for column, synthesis in enumerate(columns.values())
    ]
    tokens = Synthesis().latent_mask((0, row, len(edits)), (TOKENS, TOKENS))
    return [_picture(image), *map(_outlined, edits), _with_tokens(image, tokens), *_views(edits[0])]


def _views(edit: Synthetic) -> tuple[np.ndarray, np.ndarray]:
    """The whole view, and the four tiles in their places, without lines in them."""
    views, labels = cut_views(edit.image[None])[0], view_labels(cut_masks(edit.mask[None]))[0]
    whole, *tiles = (
        _framed(_picture(view, PICTURE // 2 if number else PICTURE), bool(label))
        for number, (view, label) in enumerate(zip(views, labels, strict=True))
    )
    return whole, np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def _picture(image: Tensor, side: int = PICTURE) -> np.ndarray:
    pixels = (image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def _outlined(edit: Synthetic) -> np.ndarray:
    """The edited image with a line a little outside the mask, so that the edge of the defect can be seen."""
    picture = _picture(edit.image)
    mask = cv2.resize(edit.mask.numpy().astype(np.uint8) * 255, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
    around = cv2.dilate((mask > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture, contours, -1, _MARK, 1)


def _with_tokens(image: Tensor, tokens: Tensor) -> np.ndarray:
    """The image with its chosen tokens as squares that let it show through."""
    picture = _picture(image)
    marked = cv2.resize(tokens.numpy().astype(np.uint8), (PICTURE, PICTURE), interpolation=cv2.INTER_NEAREST) > 0
    picture[marked] = picture[marked] // 2 + np.array(_MARK, np.uint8) // 2
    return picture


def _framed(picture: np.ndarray, anomalous: bool) -> np.ndarray:
    """The picture inside a frame that takes its outermost pixels."""
    colour = _ANOMALOUS if anomalous else _PAPER
    return cv2.rectangle(picture, (1, 1), (picture.shape[1] - 2, picture.shape[0] - 2), colour, 3)


def _compose(legend: str, titles: list[str], names: list[str], rows: list[list[np.ndarray]]) -> np.ndarray:
    """All pictures on white paper below their titles and right of their names."""
    step = PICTURE + _GAP
    sheet = np.full((_HEAD + step * len(rows), _MARGIN + step * len(titles), 3), _PAPER, np.uint8)
    _write(sheet, legend, (_GAP, 26), 0.7)
    for column, title in enumerate(titles):
        _write(sheet, title, (_MARGIN + column * step, _HEAD - 10), 0.6)
    for row, (name, pictures) in enumerate(zip(names, rows, strict=True)):
        top = _HEAD + row * step
        for line, word in enumerate(name.split("_")):
            _write(sheet, word, (_GAP, top + PICTURE // 2 + 22 * line), 0.6)
        for column, picture in enumerate(pictures):
            left = _MARGIN + column * step
            sheet[top : top + PICTURE, left : left + PICTURE] = picture
    return sheet


def _write(sheet: np.ndarray, text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
