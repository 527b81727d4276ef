"""Division of the dbt graph into stages, each of which one dbt invocation builds.

Models of the same compute and partitions share a lane. A stage contains as many models of one lane as one invocation
can build. dbt does not order a model that builds the table of a source and the readers of that source, so that they are
in different stages. Where lanes alternate along the graph, stages alternate, too. Each stage depends only on earlier
stages. If the project is cut into parts, each part is divided into stages.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from floe_orchestrator_dagster.assets.graph import dependency_order, relations_read, unknown_to_dbt
from floe_orchestrator_dagster.assets.names import acceptable_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.assets.parts import Part
    from floe_orchestrator_dagster.product.manifest import Manifest

Lane: TypeAlias = "tuple[str, int | None]"
"""A compute, and the index of the models' entry in ``partitions`` (None: not partitioned)."""

QUALITY_SCORE = "quality_score"
"""Name of the check with the product's quality score, reserved on the product's asset."""

# With more lanes, trying every order takes longer than the invocations that it may save.
_LANES_TRIED_IN_EVERY_ORDER = 4


@dataclass(frozen=True)
class DbtTest:
    """A data test or unit test.

    Attributes:
        checks: Unique id of the model, seed, snapshot or source whose asset shows the check. None for a test that reads
            none of these: the product's asset shows its check.
        name: Name of the check: the test's name as Dagster requires, with a prefix when another check has that name.
        reads: Unique ids of the nodes that it reads.
        is_later: Whether it runs after the stage of the node that it checks, so that it cannot block downstream nodes.
    """

    checks: str | None
    name: str
    reads: frozenset[str]
    is_later: bool = False


@dataclass(frozen=True)
class Stage:
    """Nodes and tests of one dbt invocation.

    Attributes:
        lane: Compute and partitions of the nodes.
        part: The configured part that it belongs to; None for a project that is not cut into parts.
        nodes: Unique ids of its models, seeds and snapshots.
        tests: The tests that run with them, by unique id.
    """

    lane: Lane
    nodes: frozenset[str]
    tests: Mapping[str, DbtTest]
    part: Part | None = None


@dataclass(frozen=True)
class StagedGraph:
    """A project's stages, in the order of their dependencies.

    Attributes:
        stages: The stages.
        late_tests: Tests that run after all stages, by compute and unique id: tests that read stages which do not
            depend on each other, tests that request another compute, and tests that no stage can run.
    """

    stages: tuple[Stage, ...]
    late_tests: Mapping[str, Mapping[str, DbtTest]]


def staged_graph(  # noqa: PLR0913, PLR0917  # a division needs all of these
    manifest: Manifest,
    lanes: Mapping[str, Lane],
    default_compute: str,
    excluded: frozenset[str] = frozenset(),
    tables: Mapping[str, str] = MappingProxyType({}),
    parts: Sequence[Part] = (),
) -> StagedGraph:
    """Split the project, or each of its parts, into as few stages as its lanes allow.

    Args:
        manifest: The dbt manifest.
        lanes: Lane of each model, seed and snapshot, by unique id.
        default_compute: Compute of tests that read no model, seed or snapshot.
        excluded: Tests that no stage runs.
        tables: The model that builds the table of a source, by the source's unique id.
        parts: Parts of the project, each of which depends only on earlier ones; empty for a project in one part.
    """
    parents = relations_read(manifest, lanes, tables)
    built_parents = {unique_id: read & lanes.keys() for unique_id, read in parents.items()}
    unordered = unknown_to_dbt(manifest, parents, tables)
    order = dependency_order(built_parents)
    places: dict[str, tuple[int, int]] = {}
    for number, members in enumerate([part.nodes for part in parts] or [lanes.keys()]):
        turns = _fewest_turns(
            [unique_id for unique_id in order if unique_id in members], built_parents, unordered, lanes
        )
        places.update({unique_id: (number, turn) for unique_id, turn in turns.items()})
    rows = {place: row for row, place in enumerate(sorted(set(places.values())))}
    graph = _Graph(manifest, parents, {unique_id: rows[places[unique_id]] for unique_id in order})
    nodes: list[set[str]] = [set() for _ in rows]
    for unique_id, row in graph.row_of.items():
        nodes[row].add(unique_id)
    stage_lanes = [lanes[next(iter(members))] for members in nodes]
    tests, late = _placed_tests(graph, stage_lanes, default_compute, excluded)
    stage_parts = [parts[number] if parts else None for number, _ in rows]
    return StagedGraph(tuple(map(Stage, stage_lanes, map(frozenset, nodes), tests, stage_parts)), late)


def _placed_tests(
    graph: _Graph, stage_lanes: Sequence[Lane], default_compute: str, excluded: frozenset[str]
) -> tuple[list[dict[str, DbtTest]], dict[str, dict[str, DbtTest]]]:
    """Assign tests to stages; return the tests of each stage, and by compute the tests after all stages."""
    manifest = graph.manifest
    tests: list[dict[str, DbtTest]] = [{} for _ in stage_lanes]
    late: defaultdict[str, dict[str, DbtTest]] = defaultdict(dict)
    names: defaultdict[str | None, set[str]] = defaultdict(set, {None: {QUALITY_SCORE}})
    for test in manifest.tests:
        if test in excluded:
            continue
        read = manifest.relations_read_by(test)
        checked = graph.checked(test, read) if read else None
        requested = graph.compute_of_test(test)
        if read and stage_lanes:
            row, waits = graph.place(read | {str(checked)})
            compute = requested or stage_lanes[row][0]
            on_its_own = waits or compute != stage_lanes[row][0]
            is_later = on_its_own or graph.row_of.get(str(checked), row) != row
        else:
            found = _stage_without_partitions(stage_lanes, requested, default_compute)
            row, compute = found or 0, requested or default_compute
            on_its_own = is_later = found is None
        placed = DbtTest(checked, _free_name(manifest, test, names[checked]), read, is_later)
        names[checked].add(placed.name)
        if on_its_own:
            late[compute][test] = placed
        else:
            tests[row][test] = placed
    return tests, dict(late)


def _stage_without_partitions(stage_lanes: Sequence[Lane], requested: str | None, default_compute: str) -> int | None:
    """Return the index of the stage for a test that reads no table: a stage without partitions, which all runs have.

    This is the first stage on the compute that the test requests. Without a request it is the first one on the
    product's default compute, or else the first one.
    """
    unpartitioned = [(row, compute) for row, (compute, partitions) in enumerate(stage_lanes) if partitions is None]
    on_compute = [row for row, compute in unpartitioned if compute == (requested or default_compute)]
    others = [] if requested else [row for row, _ in unpartitioned]
    return next(iter([*on_compute, *others]), None)


def _free_name(manifest: Manifest, test: str, taken: set[str]) -> str:
    """Return a unique name for a test's check. A unit test and tests of other packages may have the same name."""
    node = manifest.content["nodes"].get(test) or manifest.content["unit_tests"][test]
    prefix = "unit_test" if test in manifest.content["unit_tests"] else node["package_name"]
    name: str = node["name"]
    while acceptable_name(name) in taken:
        name = f"{prefix}_{name}"
    return acceptable_name(name)


def _fewest_turns(
    order: Sequence[str],
    parents: Mapping[str, frozenset[str]],
    unordered: Mapping[str, frozenset[str]],
    lanes: Mapping[str, Lane],
) -> dict[str, int]:
    """Assign each node of a part to a turn (see :func:`_turns`), with as few turns as possible."""
    members = frozenset(order)
    own = {unique_id: lane for unique_id, lane in lanes.items() if unique_id in members}
    return min(
        (_turns(order, parents, unordered, own, sequence) for sequence in _sequences(own)),
        key=lambda taken: len(set(taken.values())),
    )


def _sequences(lanes: Mapping[str, Lane]) -> Iterator[Sequence[Lane]]:
    """Yield orders of the lanes: all orders of a few lanes, or rotations of many."""
    different = list(dict.fromkeys(lanes.values()))
    if len(different) <= _LANES_TRIED_IN_EVERY_ORDER:
        yield from permutations(different)
    else:
        yield from (different[first:] + different[:first] for first in range(len(different)))


def _turns(
    order: Sequence[str],
    parents: Mapping[str, frozenset[str]],
    unordered: Mapping[str, frozenset[str]],
    lanes: Mapping[str, Lane],
    sequence: Sequence[Lane],
) -> dict[str, int]:
    """Assign each node to a turn, the number of a stage.

    The lanes of ``sequence`` take turns, again and again. A node gets the first turn of its lane that is not before the
    turns of its parents. A parent in the same lane can have the same turn, unless dbt does not build it first
    (``unordered``).
    """
    position = {lane: turn for turn, lane in enumerate(sequence)}
    turns: dict[str, int] = {}
    for unique_id in order:
        later = unordered.get(unique_id, frozenset())
        earliest = max((turns[parent] + (parent in later) for parent in parents[unique_id] & lanes.keys()), default=0)
        turns[unique_id] = earliest + (position[lanes[unique_id]] - earliest) % len(sequence)
    return turns


@dataclass(frozen=True)
class _Graph:
    """The stage of each node: index of the stage by unique id, in order of dependencies."""

    manifest: Manifest
    parents: Mapping[str, frozenset[str]]
    row_of: Mapping[str, int]

    def place(self, read: frozenset[str]) -> tuple[int, bool]:
        """Return the index of a test's stage, and whether the test must run in a separate step.

        The stage is the last one with a table that the test reads. A stage waits only for tables that its models read.
        A test that reads other tables needs a separate step. A test that only reads sources runs with the first stage
        that reads one of them.
        """
        built = read & self.row_of.keys()
        if built:
            row = max(self.row_of[unique_id] for unique_id in built)
            return row, not built <= self._inputs[row]
        return min((self._first_reader[source] for source in read if source in self._first_reader), default=0), False

    def checked(self, test: str, read: frozenset[str]) -> str:
        """Return the node whose asset shows a test's check: dagster-dbt's choice, else the last model that it reads."""
        node = self.manifest.content["nodes"].get(test, {})
        # For a test in a package, dbt can resolve the model's name to another model of the project.
        attached = node.get("attached_node")
        is_known = attached in self.row_of or attached in self.manifest.content["sources"]
        candidates = (self._named_in_meta(node), attached)
        chosen = next(
            (unique_id for unique_id in candidates if unique_id in read or (is_known and unique_id == attached)), None
        )
        return chosen or max(sorted(read), key=lambda unique_id: self._position.get(unique_id, -1))

    def compute_of_test(self, test: str) -> str | None:
        """Return the compute on which a test must run (``meta: {floe: {compute: …}}``), to read all its tables."""
        floe = _meta(self.manifest.content["nodes"].get(test, {})).get("floe")
        compute = floe.get("compute") if isinstance(floe, dict) else None
        return str(compute) if compute else None

    @cached_property
    def _position(self) -> Mapping[str, int]:
        return {unique_id: place for place, unique_id in enumerate(self.row_of)}

    @cached_property
    def _inputs(self) -> Mapping[int, set[str]]:
        inputs: defaultdict[int, set[str]] = defaultdict(set)
        for unique_id, row in self.row_of.items():
            inputs[row] |= self.parents[unique_id] | {unique_id}
        return inputs

    @cached_property
    def _first_reader(self) -> Mapping[str, int]:
        readers: dict[str, int] = {}
        for unique_id, row in self.row_of.items():
            for read in self.parents[unique_id]:
                readers[read] = min(row, readers.get(read, row))
        return readers

    def _named_in_meta(self, node: Mapping[str, Any]) -> str | None:
        """Return the model that ``meta.dagster.ref`` of a test names."""
        dagster = _meta(node).get("dagster")
        ref = dagster.get("ref") if isinstance(dagster, dict) else None
        if not ref or not isinstance(ref, dict):
            return None
        package = ref.get("package") or node.get("package_name")
        versions = self._versions.get((str(ref.get("name")), str(package)), ())
        return next((unique_id for version, unique_id in versions if version == ref.get("version")), None)

    @cached_property
    def _versions(self) -> Mapping[tuple[str, str], Sequence[tuple[object, str]]]:
        """Version and unique id of each node, by name and package."""
        versions: defaultdict[tuple[str, str], list[tuple[object, str]]] = defaultdict(list)
        for unique_id, node in self.manifest.content["nodes"].items():
            versions[node["name"], str(node.get("package_name"))].append((node.get("version"), unique_id))
        return versions


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    meta: Mapping[str, Any] = node.get("config", {}).get("meta") or node.get("meta") or {}
    return meta
