"""Renders the synthetic sets: products and materials, made with numpy and OpenCV, with masks of their damage."""

from datamodules.components.rendering.catalogue import (
    CATEGORIES,
    GOOD,
    RENDERING_VERSION,
    CategorySpec,
    Rendered,
    render,
    render_twin,
)

__all__ = ["CATEGORIES", "GOOD", "RENDERING_VERSION", "CategorySpec", "Rendered", "render", "render_twin"]
