"""The drawn anomaly set: products and materials drawn with numpy and OpenCV, their damage marked to the pixel."""

from datamodules.components.rendering.catalogue import (
    CATEGORIES,
    DRAWING_VERSION,
    GOOD,
    CategorySpec,
    Drawing,
    draw,
    draw_twin,
)

__all__ = ["CATEGORIES", "DRAWING_VERSION", "GOOD", "CategorySpec", "Drawing", "draw", "draw_twin"]
