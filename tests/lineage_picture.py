"""A picture of a lineage graph: tables in columns, from sources to leaves."""

from __future__ import annotations

from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Edge = tuple[str, str]

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 168, 26, 70, 14, 20
_COLORS = {"source": "#e8eef7", "seed": "#eaf3e6", "model": "#ffffff", "snapshot": "#f7efe2"}


def draw(tables: Mapping[str, str], edges: Iterable[Edge]) -> str:
    """Draw a graph as SVG.

    Args:
        tables: Kind (``source``, ``seed``, ``model``, ``snapshot``) by name.
        edges: From a table to one that reads it.
    """
    edges = sorted(edges)
    reads = defaultdict(set)
    for read, made in edges:
        reads[made].add(read)
    columns = _columns(tables, reads)
    place = {
        name: (_MARGIN + column * (_WIDTH + _ACROSS), _MARGIN + row * (_HEIGHT + _DOWN))
        for column, names in enumerate(columns)
        for row, name in enumerate(names)
    }
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _ACROSS) - _ACROSS
    height = 2 * _MARGIN + max(map(len, columns)) * (_HEIGHT + _DOWN) - _DOWN
    lines = [_edge(place[read], place[made]) for read, made in edges]
    boxes = [_box(name, kind, *place[name]) for name, kind in tables.items()]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    ground = f'<rect width="{width}" height="{height}" fill="#fafafa"/>'
    return "\n".join([head, ground, *lines, *boxes, "</svg>", ""])


def _columns(tables: Mapping[str, str], reads: Mapping[str, set[str]]) -> list[list[str]]:
    """Put each table after all that it reads, and beside what it reads as far as there is room."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = max((depth(read) + 1 for read in reads.get(name, ())), default=0)
        return depths[name]

    columns: list[list[str]] = [[] for _ in range(max(map(depth, tables)) + 1)]
    for name in sorted(tables):
        columns[depth(name)].append(name)
    rows: dict[str, float] = {}
    for names in columns:
        names.sort(key=lambda name: _middle(name, reads, rows))
        rows.update({name: row for row, name in enumerate(names)})
    return columns


def _middle(name: str, reads: Mapping[str, set[str]], rows: Mapping[str, float]) -> float:
    above = [rows[read] for read in reads.get(name, ()) if read in rows]
    return sum(above) / len(above) if above else 0.0


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y, to_x, to_y = start[0] + _WIDTH, start[1] + _HEIGHT // 2, end[0], end[1] + _HEIGHT // 2
    bend = _ACROSS // 2
    path = f"M{x},{y} C{x + bend},{y} {to_x - bend},{to_y} {to_x},{to_y}"
    return f'<path d="{path}" fill="none" stroke="#9aa5b1"/>'


def _box(name: str, kind: str, x: int, y: int) -> str:
    box = f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="{_COLORS[kind]}" stroke="#52606d"/>'
    label = f'<text x="{x + _WIDTH // 2}" y="{y + 17}" font-size="12" text-anchor="middle">{escape(name)}</text>'
    return f"<g><title>{escape(kind)}</title>{box}{label}</g>"
