"""A plot of ratios by size, as SVG."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 420, 50, 20, 330, 40
_COLOURS = ("#1b6ca8", "#c8553d", "#3c8d5a", "#7a4fa3", "#b8860b", "#444444")


def draw_ratios(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Draw a line per measure: sizes to the right, on a logarithmic scale, ratios from 0 at the bottom.

    Args:
        curves: Size and ratio of each point, by the measure's name.
    """
    points = [point for curve in curves.values() for point in curve]
    sizes = sorted({size for size, _ in points})
    top = max([1.0, *(ratio for _, ratio in points)])
    parts = [_text(LEFT - 8, _y(value / 4, top) + 4, f"{value / 4:g}", "end") for value in range(int(top * 4) + 1)]
    parts += [_line(_y(value / 4, top), strong=value == 4) for value in range(int(top * 4) + 1)]  # noqa: PLR2004  # 1.0
    parts += [_text(_x(size, sizes), HEIGHT - BOTTOM + 20, str(size), "middle") for size in sizes]
    for row, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[row % len(_COLOURS)]
        drawn = [(_x(size, sizes), _y(ratio, top)) for size, ratio in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in drawn]
        parts.append(_text(WIDTH - RIGHT + 20, TOP + 14 + 20 * row, name, "start", colour))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
    said = "<title>floe / plain dagster-dbt, by number of models; less is better</title>"
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    return "\n".join([head + 'font-size="12">', said, background, *parts, "</svg>", ""])


def _x(size: int, sizes: Sequence[int]) -> float:
    first, last = math.log(sizes[0]), math.log(sizes[-1])
    share = (math.log(size) - first) / (last - first) if last > first else 0.5
    return LEFT + 20 + share * (WIDTH - LEFT - RIGHT - 40)


def _y(ratio: float, top: float) -> float:
    return HEIGHT - BOTTOM - ratio / top * (HEIGHT - TOP - BOTTOM)


def _line(y: float, *, strong: bool) -> str:
    colour = "#888888" if strong else "#dddddd"
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
