"""Plots of what was measured by size, as SVG."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Curve = Sequence[tuple[int, float | None, float]]
    """Models, and what plain dagster-dbt and this package took; None where only the latter was measured."""

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 420, 280, 50, 40, 20, 40
_COLUMNS = 2
_STOCK, _FLOE = "#c8553d", "#1b6ca8"


def draw_panels(curves: Mapping[str, Curve]) -> str:
    """Draw a panel per measure: models to the right, what it took upwards, both on a logarithmic scale.

    Args:
        curves: What was measured, by its name.
    """
    rows = math.ceil(len(curves) / _COLUMNS)
    size = f"{WIDTH * _COLUMNS} {HEIGHT * rows}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="12">'
    said = "<title>floe and plain dagster-dbt, by number of models; less is better</title>"
    parts = [head, said, '<rect width="100%" height="100%" fill="#ffffff"/>']
    for number, (name, curve) in enumerate(curves.items()):
        x, y = WIDTH * (number % _COLUMNS), HEIGHT * (number // _COLUMNS)
        parts += [f'<g transform="translate({x} {y})">', *_panel(name, curve), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, curve: Curve) -> list[str]:
    parts = [_text(LEFT, 18, name, "start")]
    parts += [_text(LEFT, 33, "plain dagster-dbt", "start", _STOCK), _text(LEFT + 120, 33, "floe", "start", _FLOE)]
    values = [value for _, stock, floe in curve for value in (stock, floe) if value is not None]
    if not values:
        return [*parts, _text(LEFT, HEIGHT / 2, "not measured", "start")]
    sizes, ticks = [size for size, _, _ in curve], _ticks(min(values), max(values))

    def at(size: int, value: float) -> tuple[float, float]:
        across = _share(size, sizes[0], sizes[-1]) * (WIDTH - LEFT - RIGHT - 20)
        return LEFT + 10 + across, HEIGHT - BOTTOM - _share(value, ticks[0], ticks[-1]) * (HEIGHT - TOP - BOTTOM)

    for tick in ticks:
        y = at(sizes[0], tick)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{tick:g}", "end"))
    parts += [_text(at(size, ticks[0])[0], HEIGHT - BOTTOM + 18, str(size), "middle") for size in sizes]
    stock = [at(size, value) for size, value, _ in curve if value is not None]
    return [*parts, *_drawn(stock, _STOCK), *_drawn([at(size, value) for size, _, value in curve], _FLOE)]


def _ticks(low: float, high: float) -> list[float]:
    """The values 1, 2 and 5 of each power of ten around what was measured."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    first, last = max(tick for tick in ticks if tick <= low), min(tick for tick in ticks if tick >= high)
    return [tick for tick in ticks if first <= tick <= last]


def _share(value: float, first: float, last: float) -> float:
    return math.log(value / first) / math.log(last / first) if last > first else 0.5


def _drawn(points: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return [line, *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)]


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
