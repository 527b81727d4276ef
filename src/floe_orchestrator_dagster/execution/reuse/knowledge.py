"""Knowledge before a run, and what a build reads: builds of tables, data versions of sources, and columns."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.reuse.graph import STORED, BuildGraph
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.reuse.waiting import Waiting

_WITH_COLUMN_VERSIONS = frozenset({"table", "view"})


@dataclass(frozen=True)
class Known:
    """Everything that is known before a run.

    Attributes:
        fingerprints: Current fingerprint of each node.
        always: Why a node or test is always built or run.
        states: The build that each table and view has.
        versions: Data version of each source; sources without one are left out.
        test_versions: Current version of each test.
        test_records: Last result of each test.
        tests: Direct parents of each test of the product, in this step and in others.
        source_columns: Version of each source's columns; sources whose columns are not known are left out.
        waiting: How long each node may wait for new data of its inputs; nodes that never wait are left out.
        now: Time of the decision, in seconds since 1970.
        before: Why nodes of earlier steps are built in the same run, in a decision before the run.
        unbuilt: Why the table of a node does not have the rows of the run's partitions, although its build is known.
        windowed: The nodes whose builds depend on the run's partitions.
    """

    fingerprints: Mapping[str, str]
    always: Mapping[str, str]
    states: Mapping[str, State]
    versions: Mapping[str, str]
    test_versions: Mapping[str, str]
    test_records: Mapping[str, CheckRecord]
    tests: Mapping[str, AbstractSet[str]]
    source_columns: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    now: float = 0.0
    before: Mapping[str, str] = field(default_factory=dict)
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    windowed: AbstractSet[str] = frozenset()

    def build_of(self, graph: BuildGraph, unique_id: str) -> str | None:
        """Return the build or data version of a table before the run; None if it is not known."""
        state = self.states.get(unique_id)
        if graph.kinds.get(unique_id) == "source":
            return self.versions.get(unique_id)
        if not isinstance(state, BuildRecord):
            return None
        # An outdated view may read other tables than those of the project's current code. The rows of a view that is
        # always built may differ in each query.
        is_outdated = state.fingerprint != self.fingerprints.get(unique_id) or unique_id in self.always
        return None if is_outdated and graph.kinds.get(unique_id) not in STORED else state.build_id


def read_inputs(
    graph: BuildGraph,
    known: Known,
    unique_id: str,
    build_ids: Mapping[str, str],
    finished: AbstractSet[str] = frozenset(),
) -> dict[str, str | None]:
    """Return what a build or test of a run reads: builds of this run, and what was known before it.

    Args:
        graph: The project.
        known: What was known before the run.
        unique_id: The node or test.
        build_ids: The builds of this run, by unique id.
        finished: The nodes whose builds certainly ended before this one started.
    """
    # dbt does not know that a model builds the table of a source: it may have built its readers at the same time.
    unordered = (build_ids.keys() & set(graph.built_sources.values())) - finished
    return {
        parent: None if parent in unordered else build_ids.get(parent) or known.build_of(graph, parent)
        for parent in sorted(graph.inputs(unique_id))
    }


def read_codes(known: Known, inputs: Iterable[str], built: AbstractSet[str]) -> dict[str, str]:
    """Return the fingerprints of the builds that a build reads; those that are not known are left out.

    Args:
        known: What was known before the run.
        inputs: Unique ids of what it reads.
        built: Unique ids of the nodes that the run has built.
    """
    found: dict[str, str] = {}
    for parent in inputs:
        state = known.states.get(parent)
        code = known.fingerprints.get(parent) if parent in built else getattr(state, "fingerprint", None)
        if code is not None:
            found[parent] = code
    return found


def column_version(graph: BuildGraph, known: Known, unique_id: str, of_built: Mapping[str, str | None]) -> str | None:
    """Return the version of the columns that a build of a node has; None if it is not known.

    The columns of a table or view depend on its code and on the columns of what it reads. Those of an incremental
    model, a seed or a snapshot also depend on its earlier builds, and those of a table or view with partitions on the
    partitions of its last build. Each build of these counts as another version.

    Args:
        graph: The project.
        known: What is known before the run.
        unique_id: The node.
        of_built: The versions of the nodes that the run builds; None for those that are not known.
    """
    fingerprint = known.fingerprints.get(unique_id)
    is_unknown = fingerprint is None or unique_id in known.always or unique_id in known.windowed
    if is_unknown or graph.kinds.get(unique_id) not in _WITH_COLUMN_VERSIONS:
        return None
    read = sorted(graph.direct_inputs(unique_id))
    versions = [of_built[one] if one in of_built else _known_columns(graph, known, one) for one in read]
    if None in versions:
        return None
    return hashlib.sha256(json.dumps([fingerprint, read, versions]).encode()).hexdigest()[:16]


def _known_columns(graph: BuildGraph, known: Known, unique_id: str) -> str | None:
    """Return the version of the columns that a table, view or source has before the run."""
    state = known.states.get(unique_id)
    if graph.kinds.get(unique_id) == "source":
        return known.source_columns.get(unique_id)
    if not isinstance(state, BuildRecord):
        return None
    has_version = graph.kinds.get(unique_id) in _WITH_COLUMN_VERSIONS and state.window is None
    return state.columns if has_version else state.build_id
