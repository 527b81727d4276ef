"""Timeline of a run: when dbt built and tested each node, the critical path, and the slowest nodes.

Everything is read from Dagster's event log, so that it works for every finished or running run of any machine. Nodes
that failed to build have no event with these times and are not shown.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import InstanceError, Problem
from floe_orchestrator_dagster.execution.record.materializations import NODE_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_EVENTS = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
_REUSED = "reused"
_UNIT_TEST = "unit_test."
_EARLIER = 10
_MOST_EVENTS = 200
_INACCURACY = 0.05  # seconds by which dbt's durations can be too long


@dataclass(frozen=True)
class TimedNode:
    """A node that dbt built or tested in a run.

    Attributes:
        unique_id: dbt's unique id.
        status: dbt's status, such as ``success`` or ``fail``.
        key: Asset of a model, seed or snapshot; None for a test.
        start: Seconds since the run's first node started.
        end: As ``start``.
        lane: Row of the drawing, from 0. Nodes of one row do not overlap.
        waited: Seconds between the end of the last node that it had to wait for and its start; 0 without such a node.
    """

    unique_id: str
    status: str
    key: dg.AssetKey | None
    start: float
    end: float
    lane: int = 0
    waited: float = 0.0

    @property
    def seconds(self) -> float:
        """Duration of the node."""
        return self.end - self.start

    @property
    def name(self) -> str:
        """The unique id without package: resource type and name."""
        kind, _, name = self.unique_id.split(".", 2)
        return f"{kind} {name}"


@dataclass(frozen=True)
class SlowNode:
    """One of the slowest nodes of a run.

    Attributes:
        node: The node.
        median_before: Median duration of the asset's last builds before this run, in seconds; None for tests and first
            builds.
        builds: Number of these builds, at most ten.
    """

    node: TimedNode
    median_before: float | None
    builds: int


@dataclass(frozen=True)
class Timeline:
    """The nodes of a run in time.

    Attributes:
        run_id: The run.
        nodes: The nodes by start.
        critical: The critical path: the nodes that determined the end, each of which waited for the one before it.
        slowest: At most ten nodes, the slowest first.
    """

    run_id: str
    nodes: tuple[TimedNode, ...]
    critical: tuple[TimedNode, ...]
    slowest: tuple[SlowNode, ...]

    @property
    def seconds(self) -> float:
        """Seconds from the start of the first node to the end of the last one."""
        return max((node.end for node in self.nodes), default=0.0)

    @property
    def at_once(self) -> int:
        """Largest number of nodes that ran at the same time."""
        return max((node.lane + 1 for node in self.nodes), default=0)


def read_timeline(
    instance: dg.DagsterInstance, run_id: str, parents: Mapping[str, Sequence[str]], slowest: int = 10
) -> Timeline:
    """Read the timeline of a run from the event log.

    Args:
        instance: The Dagster instance.
        run_id: Id of the run, or its beginning.
        parents: What each node of the dbt project reads, by unique id.
        slowest: Number of slowest nodes.

    Raises:
        InstanceError: The instance has no such run, or several.
    """
    run = _run(instance, run_id)
    timed = _timed(instance, run.run_id)
    nodes = _in_lanes(_with_waits(timed, _Order(timed, parents)))
    ranked = sorted(nodes, key=lambda node: node.seconds, reverse=True)[:slowest]
    started = instance.get_run_record_by_id(run.run_id)
    before = started.start_time if started and started.start_time else None
    return Timeline(
        run.run_id,
        tuple(nodes),
        tuple(_critical(nodes, _Order(nodes, parents))),
        tuple(_compared(instance, node, run.run_id, before) for node in ranked),
    )


def _run(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    found = instance.get_run_by_id(run_id)
    if found is not None:
        return found
    recent = instance.get_runs(limit=1000)
    matching = [run for run in recent if run.run_id.startswith(run_id)] if run_id else []
    if len(matching) == 1:
        return matching[0]
    what = f"{len(matching)} runs start with {run_id!r}" if matching else f"run {run_id!r} is not in the instance"
    newest = f"The newest are {', '.join(run.run_id for run in recent[:3])}." if recent else "It has no runs."
    home = instance.root_directory if instance.is_persistent else "DAGSTER_HOME"
    raise InstanceError(home, [Problem("", what, f"Name a run of this instance, as on its page. {newest}")])


def _timed(instance: dg.DagsterInstance, run_id: str) -> list[TimedNode]:
    found = [node for node in map(_node, instance.all_logs(run_id, of_type=_EVENTS)) if node is not None]
    first = min((node.start for node in found), default=0.0)
    timed = [replace(node, start=node.start - first, end=node.end - first) for node in found]
    # A retry can run a node again: its last result counts.
    return sorted({node.unique_id: node for node in timed}.values(), key=lambda node: (node.start, node.unique_id))


def _node(entry: dg.EventLogEntry) -> TimedNode | None:
    """Return the node of an event, with absolute times; None for an event of something else, or of a reused result."""
    event = entry.dagster_event
    if event is None:
        return None
    if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
        key, metadata = event.asset_key, event.step_materialization_data.materialization.metadata
    else:
        key, metadata = None, event.asset_check_evaluation_data.metadata
    unique_id = _value(metadata, NODE_ID) or _value(metadata, "unique_id")  # the second of checks, and of old versions
    seconds = _value(metadata, "Execution Duration")
    status = str(_value(metadata, "status") or "")
    if not isinstance(unique_id, str) or not isinstance(seconds, float | int) or status == _REUSED:
        return None
    started = _value(metadata, "floe/started")
    start = started if isinstance(started, float) else entry.timestamp - seconds
    return TimedNode(unique_id, status, key, start, start + seconds)


def _value(metadata: Mapping[str, Any], name: str) -> object:
    return getattr(metadata.get(name), "value", None)


class _Order:
    """The order in which ``dbt build`` runs nodes: after what they read.

    A table also waits for the tests of what it reads, and for its own unit tests.
    """

    def __init__(self, nodes: Iterable[TimedNode], parents: Mapping[str, Sequence[str]]) -> None:
        self._by_id = {node.unique_id: node for node in nodes}
        self._parents = parents
        self._tests: defaultdict[str, list[TimedNode]] = defaultdict(list)
        self._unit_tests: defaultdict[str, list[TimedNode]] = defaultdict(list)
        for node in self._by_id.values():
            if node.unique_id.startswith(_UNIT_TEST):
                for model in parents.get(node.unique_id, ()):
                    self._unit_tests[model].append(node)
            elif node.key is None:
                for parent in self._read(node.unique_id):
                    self._tests[parent].append(node)

    def last_before(self, node: TimedNode) -> TimedNode | None:
        """Return the node that ended last among those that ``node`` had to wait for."""
        read = [*self._read(node.unique_id)]
        before = [self._by_id[parent] for parent in read]
        if node.key is not None:
            before += [test for parent in read for test in self._tests[parent]]
            before += self._unit_tests[node.unique_id]
        ended = (one for one in before if one.end <= node.start + _INACCURACY)
        return max(ended, key=lambda one: one.end, default=None)

    def _read(self, unique_id: str) -> Iterator[str]:
        """Find the nodes of this run that a node reads, also behind nodes that did not run, such as ephemeral ones."""
        seen: set[str] = set()
        waiting = [*self._parents.get(unique_id, ())]
        if unique_id.startswith(_UNIT_TEST):  # it runs before its model
            waiting = [parent for model in waiting for parent in self._parents.get(model, ())]
        while waiting:
            parent = waiting.pop()
            if parent in seen:
                continue
            seen.add(parent)
            if parent in self._by_id:
                yield parent
            else:
                waiting += self._parents.get(parent, ())


def _with_waits(nodes: Iterable[TimedNode], order: _Order) -> Iterator[TimedNode]:
    for node in nodes:
        last = order.last_before(node)
        yield replace(node, waited=max(0.0, node.start - last.end) if last else 0.0)


def _in_lanes(nodes: Iterable[TimedNode]) -> list[TimedNode]:
    """Place each node in the first row that is free at its start."""
    free_from: list[float] = []
    placed = []
    for node in nodes:
        lane = next((row for row, end in enumerate(free_from) if end <= node.start + _INACCURACY), len(free_from))
        if lane == len(free_from):
            free_from.append(0.0)
        free_from[lane] = node.end
        placed.append(replace(node, lane=lane))
    return placed


def _critical(nodes: Sequence[TimedNode], order: _Order) -> list[TimedNode]:
    """Return the chain of nodes that ends with the last one, each after the last of those that it had to wait for."""
    found: list[TimedNode] = []
    node = max(nodes, key=lambda one: one.end, default=None)
    while node is not None:
        found.append(node)
        node = order.last_before(node)
    return found[::-1]


def _compared(instance: dg.DagsterInstance, node: TimedNode, run_id: str, before: float | None) -> SlowNode:
    if node.key is None:
        return SlowNode(node, None, 0)
    builds = dg.AssetRecordsFilter(asset_key=node.key, before_timestamp=before)
    by_run: dict[str, float] = {}  # a build of several partitions has an event for each
    for record in instance.fetch_materializations(builds, limit=_MOST_EVENTS).records:
        event = record.asset_materialization
        value = _value(event.metadata, "Execution Duration") if event is not None else None
        if isinstance(value, float | int) and record.run_id != run_id:
            by_run.setdefault(record.run_id, value)
    seconds = [*by_run.values()][:_EARLIER]
    return SlowNode(node, median(seconds) if seconds else None, len(seconds))
