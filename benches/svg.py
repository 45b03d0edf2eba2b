"""A drawing surface that writes clean SVG, legible on a light page and on a dark one.

The background is transparent and every colour keeps a contrast of about 4:1 to white and to
near-black, because an image on a page cannot know which of the two its reader has chosen.
"""

from __future__ import annotations

from html import escape
from typing import Literal

INK = "#727d88"
FAINT = "#838c96"
OURS = "#2f81f7"
MET = "#2da44e"
MISSED = "#d1622b"
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

Anchor = Literal["start", "middle", "end"]


class Drawing:
    """Shapes on a surface of `width` × `height` user units (pixels at natural size)."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height = width, height
        self._title = title
        self._shapes: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        size: float = 13,
        anchor: Anchor = "start",
        fill: str = INK,
        bold: bool = False,
    ) -> None:
        """Write one line; (x, y) is its baseline's start, middle or end."""
        weight = ' font-weight="600"' if bold else ""
        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{fill}"{weight}>{escape(content)}</text>'
        )

    def bar(
        self, x: float, y: float, width: float, height: float, *, fill: str, opacity: float = 1.0
    ) -> None:
        """Fill a rectangle with slightly rounded corners; never thinner than can be seen."""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.5, width):.1f}" height="{height:.1f}" '
            f'rx="2" fill="{fill}" fill-opacity="{opacity:g}"/>'
        )

    def line(
        self,
        points: list[tuple[float, float]],
        *,
        stroke: str = FAINT,
        width: float = 1.0,
        opacity: float = 1.0,
    ) -> None:
        """Draw a line through two or more points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}" '
            f'stroke-opacity="{opacity:g}" stroke-linejoin="round" stroke-linecap="round"/>'
        )

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        """Draw a filled circle."""
        self._shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}"/>')

    def __str__(self) -> str:
        """Return the SVG document."""
        width, height = f"{self.width:g}", f"{self.height:g}"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="{_FONTS}">'
        )
        title = f"<title>{escape(self._title)}</title>"
        return "\n".join((head, title, *self._shapes, "</svg>", ""))
