"""Maps of anomaly over their images, in colours that many share, and a sheet of the most anomalous ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmark.records.page.maps import COLOURS, overlay

#: Percentiles of all maps that the ends of the colours stand for, as on the pages of results.
SPAN = (1.0, 99.9)
SIDE = 1280  # longest side of an overlay, pixels
INK, FAINT, ALARM, PAPER = (24, 24, 27), (113, 113, 122), (190, 18, 60), (255, 255, 255)
TILE, GAP, MARGIN, LINE = 220, 6, 28, 18  # of a sheet, pixels


class Span(NamedTuple):
    """Values of a map that the two ends of the colours stand for."""

    low: float
    high: float


class Tile(NamedTuple):
    """One image of a sheet."""

    picture: Image.Image
    heat: Image.Image
    name: str
    told: str  # its score
    alarmed: bool


def span_of(maps: NDArray[np.float32]) -> Span:
    """The span that all maps (n, h, w) share."""
    low, high = np.percentile(maps, SPAN) if maps.size else (0.0, 1.0)
    return Span(float(low), float(high))


def stretch(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map of the whole image, (h, w), bilinearly at another size, (width, height)."""
    resized = Image.fromarray(np.ascontiguousarray(values, np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def shrunk(picture: Image.Image, most: int) -> Image.Image:
    """An image in RGB whose longer side is at most so many pixels."""
    scale = min(1.0, most / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def heat_map(picture: Image.Image, values: NDArray[np.float32], span: Span, most: int = SIDE) -> Image.Image:
    """A map of the whole image, (h, w), over it, in its proportions; the longer side is at most so many pixels."""
    small = shrunk(picture, most)
    stretched = stretch(values, small.size).astype(np.float64)
    shares = ((stretched - span.low) / ((span.high - span.low) or 1.0)).clip(0, 1)
    return overlay(np.asarray(small), shares)


def contact_sheet(title: str, lines: Sequence[str], tiles: Sequence[Tile], span: Span) -> Image.Image:
    """Images beside their heat maps, in rows, below a heading and a bar that says what the colours mean."""
    across = max(2, min(4, len(tiles)))
    width = 2 * MARGIN + across * (2 * TILE + GAP) + (across - 1) * 4 * GAP
    lines = [line for each in lines for line in _wrap(each, _font(14), width - 2 * MARGIN)]
    top = MARGIN + 34 + LINE * len(lines) + 56
    rows = [tiles[start : start + across] for start in range(0, len(tiles), across)]
    heights = [max(tile.heat.height for tile in row) + 2 * LINE + 3 * GAP for row in rows]
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), title, INK, _font(22))
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + 34 + LINE * number), line, FAINT, _font(14))
    _draw_bar(sheet, (MARGIN, top - 46), span)
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _draw_tile(sheet, (MARGIN + column * (2 * TILE + 5 * GAP), top), tile)
        top += height
    return sheet


def _draw_tile(sheet: Image.Image, corner: tuple[int, int], tile: Tile) -> None:
    (x, y), draw = corner, ImageDraw.Draw(sheet)
    sheet.paste(tile.picture, (x, y))
    sheet.paste(tile.heat, (x + tile.picture.width + GAP, y))
    below = y + max(tile.picture.height, tile.heat.height) + GAP
    draw.text((x, below), _shorten(tile.name, _font(14), 2 * TILE + GAP), INK, _font(14))
    draw.text((x, below + LINE), tile.told, ALARM if tile.alarmed else FAINT, _font(14))


def _draw_bar(sheet: Image.Image, corner: tuple[int, int], span: Span) -> None:
    (x, y), draw = corner, ImageDraw.Draw(sheet)
    places, ends = np.linspace(0, 1, 2 * TILE), np.linspace(0, 1, len(COLOURS))
    bar = np.stack([np.interp(places, ends, channel) for channel in COLOURS.T], axis=-1)
    sheet.paste(Image.fromarray(np.repeat(np.rint(bar).astype(np.uint8)[None], 12, axis=0)), (x, y))
    draw.text((x, y + 15), f"{span.low:.3g}", FAINT, _font(13))
    draw.text((x + 2 * TILE, y + 15), f"{span.high:.3g}", FAINT, _font(13), anchor="ra")
    draw.text((x + TILE, y + 15), "anomaly, one scale for all", FAINT, _font(13), anchor="ma")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The end of a text that is too long, which tells names of one folder apart."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"…{text}") > width:
        text = text[1:]
    return f"…{text}"


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A text in lines of at most so many pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width else [*lines, word]
    return lines
