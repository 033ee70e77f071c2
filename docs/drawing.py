"""Drawings as SVG text with the colours of the page around them, dark ones too."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FONT = 15
LINE = 19
"""The distance from one line of text to the next."""
WIDE = 0.5
"""The width of a character, in font sizes, on average."""


class Drawing:
    """Shapes in the order in which they were added, on a canvas that is ``width`` units wide."""

    def __init__(self, width: int):
        self.width = width
        self.height = 0
        self._shapes: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, style: str = "") -> None:
        """Draw a rectangle; ``style`` is ``changed``, ``faint``, ``plain`` or nothing."""
        self._add(y + height, f'<rect class="box {style}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>')

    def text(self, x: float, y: float, words: str, style: str = "", size: int = FONT, anchor: str = "start") -> None:
        """Write one line of text, whose baseline is at ``y``."""
        place = f'x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"'
        self._add(y + size / 3, f'<text class="{style}" {place}>{escape(words)}</text>')

    def lines(self, x: float, y: float, lines: Sequence[str], style: str = "", size: int = FONT) -> None:
        """Write several lines, the first one's baseline at ``y``."""
        for index, line in enumerate(lines):
            self.text(x, y + index * LINE * size / FONT, line, style, size)

    def arrow(self, x: float, y: float, to_x: float, to_y: float, style: str = "") -> None:
        """Draw a straight line with a head."""
        ends = f'x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}"'
        along = np.array([to_x - x, to_y - y])
        along = 7 * along / np.linalg.norm(along)
        across = np.array([-along[1], along[0]]) / 2
        tip = np.array([to_x, to_y])
        corners = " ".join(f"{px:g},{py:g}" for px, py in (tip, tip - along + across, tip - along - across))
        self._add(max(y, to_y), f'<line class="line {style}" {ends}/>')
        self._add(max(y, to_y), f'<polygon class="head {style}" points="{corners}"/>')

    def image(self, x: float, y: float, side: float, pixels: NDArray[np.float32]) -> None:
        """Draw an image (C, H, W), each pixel a square; values outside [0, 1] are shown as 0 or 1."""
        place = f'x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}"'
        self._add(y + side, f'<image class="pixels" {place} href="{png(pixels)}"/>')

    def svg(self, about: str) -> str:
        """Return the whole drawing; ``about`` is its description for screen readers."""
        height = round(self.height + 6)
        view = f'viewBox="-2 -2 {self.width + 4} {height}"'
        head = f'<svg class="drawing" {view} role="img" aria-label="{escape(about)}">'
        return "\n".join([head, *self._shapes, "</svg>", ""])

    def _add(self, bottom: float, shape: str) -> None:
        self.height = max(self.height, bottom)
        self._shapes.append(shape)


def wrap_words(words: str, width: float, size: int = FONT) -> list[str]:
    """Break words into lines of about this width."""
    return wrap(words, max(8, int(width / (WIDE * size))), break_on_hyphens=False)


def shorten(words: str, width: float, size: int = FONT) -> str:
    """Cut words to about this width."""
    fit = int(width / (WIDE * size))
    return words if len(words) <= fit else f"{words[: fit - 1]}…"


def png(pixels: NDArray[np.float32]) -> str:
    """Encode an image (C, H, W) in [0, 1] as a data URI; three channels in colour, others by their mean."""
    levels = np.rint(255 * np.clip(np.nan_to_num(pixels), 0, 1)).astype(np.uint8)
    levels = levels.transpose(1, 2, 0) if len(levels) == 3 else levels.mean(0).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(levels).save(out, format="png", optimize=True)
    return f"data:image/png;base64,{b64encode(out.getvalue()).decode()}"
