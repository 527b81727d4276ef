"""HTML page of a run's timeline: a drawing of its nodes, the critical path, and the slowest nodes.

The page is one file without scripts or links to other files.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from floe_orchestrator_dagster.inspect.timeline import SlowNode, TimedNode, Timeline

_WIDTH, _ROW, _TOP = 1200, 22, 24
_GAP = 2
_SHORTEST_WITH_TEXT = 60
_CHARACTER = 7
_TICKS = 8
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_FAILED = frozenset({"error", "fail", "runtime error"})
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 24px; color: #1c2024; background: #fff; }
svg { width: 100%; height: auto; border: 1px solid #d9dde1; }
svg text { font: 11px system-ui, sans-serif; fill: #1c2024; }
rect.table { fill: #8ab4f8; } rect.test { fill: #c3dfc8; } rect.failed { fill: #f28b82; }
rect.critical { stroke: #1c2024; stroke-width: 2; }
line.tick { stroke: #e4e7ea; } line.wait { stroke: #9aa0a6; stroke-dasharray: 3 3; }
table { border-collapse: collapse; } th, td { padding: 2px 12px 2px 0; text-align: left; }
td.number, th.number { text-align: right; }
"""


def timeline_page(timeline: Timeline) -> str:
    """Return the HTML page."""
    nodes = counted(len(timeline.nodes), "node")
    head = f"<title>Run {escape(timeline.run_id)}</title><style>{_STYLE}</style>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}</head><body>'
        f"<h1>Run {escape(timeline.run_id)}</h1>"
        f"<p>{nodes} in {timeline.seconds:.1f} s, at most {timeline.at_once} at the same time.</p>"
        f"{''.join(_drawing(timeline))}"
        "<p>Blue: tables and views. Green: tests. Red: failed. Outlined: the critical path. Dashed: waiting time "
        "after the previous node of the critical path.</p>"
        f"<h2>Critical path</h2>{''.join(_critical(timeline))}"
        f"<h2>Slowest nodes</h2>{''.join(_slowest(timeline))}</body></html>\n"
    )


def _drawing(timeline: Timeline) -> Iterator[str]:
    height = _TOP + _ROW * timeline.at_once + _GAP
    scale = _WIDTH / timeline.seconds if timeline.seconds else 0.0
    critical = {node.unique_id for node in timeline.critical}
    yield f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Nodes of the run in time">'
    step = next((step for step in _STEPS if step * _TICKS >= timeline.seconds), timeline.seconds / _TICKS)
    for number in range(int(timeline.seconds / step) + 1 if step else 0):
        left = number * step * scale
        yield f'<line class="tick" x1="{left:.1f}" x2="{left:.1f}" y1="0" y2="{height}"/>'
        yield f'<text x="{left + _GAP:.1f}" y="14">{number * step:g} s</text>'
    for node in timeline.nodes:
        yield from _bar(node, scale, is_critical=node.unique_id in critical)
    yield "</svg>"


def _bar(node: TimedNode, scale: float, *, is_critical: bool) -> Iterator[str]:
    left, width = node.start * scale, max(node.seconds * scale, 1.0)
    top = _TOP + node.lane * _ROW
    kind = "failed" if node.status in _FAILED else ("table" if node.key else "test")
    if is_critical and node.waited * scale >= 1:
        middle, begin = top + _ROW / 2, left - node.waited * scale
        yield f'<line class="wait" x1="{begin:.1f}" x2="{left:.1f}" y1="{middle}" y2="{middle}"/>'
    title = f"{node.name}: {node.status}, {node.seconds:.2f} s, from {node.start:.2f} s"
    classes = f"{kind} critical" if is_critical else kind
    yield f'<rect class="{classes}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_ROW - _GAP}">'
    yield f"<title>{escape(title)}</title></rect>"
    if width >= _SHORTEST_WITH_TEXT:
        shown = node.name.split(" ", 1)[1][: int(width / _CHARACTER)]
        yield f'<text x="{left + 4:.1f}" y="{top + 14}" pointer-events="none">{escape(shown)}</text>'


def _critical(timeline: Timeline) -> Iterator[str]:
    rows = [(node.name, f"{node.start:.2f}", f"{node.seconds:.2f}", f"{node.waited:.2f}") for node in timeline.critical]
    yield from _table(("node", "start (s)", "duration (s)", "waited (s)"), rows)


def _slowest(timeline: Timeline) -> Iterator[str]:
    rows = [
        (slow.node.name, f"{slow.node.seconds:.2f}", _median(slow), str(slow.builds or "")) for slow in timeline.slowest
    ]
    yield from _table(("node", "duration (s)", "median of earlier builds (s)", "earlier builds"), rows)


def _median(slow: SlowNode) -> str:
    """Return the median duration of earlier builds, or ``-``."""
    return "-" if slow.median_before is None else f"{slow.median_before:.2f}"


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    first, *numbers = names
    yield f"<table><tr><th>{first}</th>{''.join(f'<th class=number>{name}</th>' for name in numbers)}</tr>"
    for label, *values in rows:
        yield f"<tr><td>{escape(label)}</td>{''.join(f'<td class=number>{value}</td>' for value in values)}</tr>"
    yield "</table>"
