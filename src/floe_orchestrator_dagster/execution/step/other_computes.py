"""Tables of other computes that a step reads, and the dbt project as it is parsed for each compute.

A step reads such a table in its own database, where another one can have the same name, and a view of another compute
reads its tables there. In doubt, what reads them is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import FloeDagsterError
from floe_orchestrator_dagster.execution.dbt.catalog import table_name
from floe_orchestrator_dagster.execution.reuse.decision import short_name
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord
from floe_orchestrator_dagster.execution.step.build_facts import (
    Places,
    is_assumed_unchanged,
    project_graph,
    unusable_manifest,
)
from floe_orchestrator_dagster.execution.step.database_epochs import database_epoch
from floe_orchestrator_dagster.execution.step.warehouse import Warehouse
from floe_orchestrator_dagster.product.build_fingerprints import build_fingerprints
from floe_orchestrator_dagster.product.compute_manifests import compute_manifest
from floe_orchestrator_dagster.product.prepare import is_parsed_with_names
from floe_orchestrator_dagster.product.same_tables import is_same_table
from floe_orchestrator_dagster.product.trimming import ALWAYS_BUILT

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    import dagster as dg

    from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
    from floe_orchestrator_dagster.execution.reuse.records import State
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.product.build_fingerprints import BuildFingerprint
    from floe_orchestrator_dagster.product.manifest import Manifest

_COLLECTIONS = ("nodes", "sources", "functions", "unit_tests")


def on_own_manifest(step: DbtStep) -> DbtStep:
    """Return a step with the manifest of its compute; the step itself if it has that already, or none is usable."""
    dbt = step.product.dbt
    if dbt is None or not dbt.is_parsed_otherwise(step.compute):
        return step
    return _on_compute(step, step.compute) or step


def missing_manifest(step: DbtStep) -> str | None:
    """Return why a step does not have the manifest of its compute; None if it has."""
    dbt = step.product.dbt
    if dbt is None or step.manifest is not dbt.manifest or not dbt.is_parsed_otherwise(step.compute):
        return None
    if compute_manifest(dbt, step.compute) is None:
        return f"the dbt project has not been parsed for compute {step.compute} (floe-dagster prepare)"
    return f"the dbt project has other models, tests or sources on compute {step.compute} than on the default one"


def _on_compute(step: DbtStep, compute: str) -> DbtStep | None:
    """Return a step as it would be on a compute; None without a manifest of the compute with the same nodes."""
    dbt = step.product.dbt
    manifest = compute_manifest(dbt, compute) if dbt is not None else None
    if dbt is None or manifest is None or not _has_same_nodes(manifest, dbt.manifest):
        return None
    content = manifest.content
    # Sources are not mapped to the nodes that build their tables. The database can have several names.
    built = {table_name(node)[1:] for found in (manifest, dbt.manifest) for node in found.asset_nodes}
    unclear = {one for one, source in content["sources"].items() if table_name(source)[1:] in built}
    return replace(
        step,
        connection=dbt.on(compute),
        manifest=manifest,
        compute=compute,
        key_of={node["unique_id"]: step.key_of[node["unique_id"]] for node in manifest.asset_nodes},
        source_tables={},
        unclear_sources=unclear | step.unclear_sources | step.source_tables.keys(),
    )


def _has_same_nodes(one: Manifest, other: Manifest) -> bool:
    """Return whether two manifests have the same nodes, and the same of them are assets."""
    if any(one.content[collection].keys() != other.content[collection].keys() for collection in _COLLECTIONS):
        return False
    return {node["unique_id"] for node in one.asset_nodes} == {node["unique_id"] for node in other.asset_nodes}


def _usable_on(step: DbtStep, compute: str) -> DbtStep | None:
    """Return a step as it would be on a compute; None if it is not known what dbt builds there."""
    try:
        found = _on_compute(step, compute)
        return found if found is not None and unusable_manifest(found) is None else None
    except FloeDagsterError:  # the compute's dbt engine is not installed here
        return None


def _has_names_of_profile(step: DbtStep) -> bool:
    """Return whether the profile had the same database and schema when the project was parsed for a step's compute."""
    try:
        return is_parsed_with_names(step.manifest.path, step.connection)
    except OSError:
        return False


def views_built_in_doubt(
    graph: BuildGraph, states: Mapping[str, State], compute_of: Callable[[str], str]
) -> dict[str, str]:
    """Return why views may still read other tables than their code names now: their last build was in doubt of that.

    Args:
        graph: The product's graph.
        states: The builds of tables and views.
        compute_of: Returns the compute that builds a node.
    """
    views = {one: state for one, state in states.items() if graph.kinds.get(one) == "view"}
    doubtful = {
        view
        for view, state in views.items()
        if isinstance(state, BuildRecord)
        and state.columns is None
        and any(state.inputs.get(one) is None for one in graph.inputs(view) if compute_of(one) != compute_of(view))
    }
    return dict.fromkeys(sorted(doubtful), "its last build may have read another table of another compute")


@dataclass(frozen=True)
class OtherComputes:
    """The tables of other computes that a step reads.

    Attributes:
        instance: The Dagster instance.
        step: The step, with the manifest of its compute.
        graph: The product's graph on this compute.
        tables: Unique ids of the tables and views.
        log: The run's log.
    """

    instance: dg.DagsterInstance
    step: DbtStep
    graph: BuildGraph
    tables: frozenset[str]
    log: logging.Logger
    _doubts: dict[tuple[str, str], str | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def doubt(self, reader: str) -> str | None:
        """Return why a node or test of the step may read something else than what is known; None if it does not."""
        if not self.tables:
            return None
        views = (one for one in sorted(self.graph.inputs(reader)) if self.graph.kinds.get(one) == "view")
        return next((doubt for one in (reader, *views) if (doubt := self._doubt_of_query(one))), None)

    def doubtful_views(self, states: Mapping[str, State], selected: AbstractSet[str]) -> dict[str, str]:
        """Return the views of :func:`views_built_in_doubt` that are not selected, and so not built again."""
        found = views_built_in_doubt(self.graph, states, self._compute) if self.tables else {}
        return {view: reason for view, reason in found.items() if view not in selected}

    def doubts(self, readers: Iterable[str]) -> dict[str, str]:
        """Return the doubts about nodes and tests that have some."""
        found = ((reader, self.doubt(reader)) for reader in (readers if self.tables else ()))
        return {reader: doubt for reader, doubt in found if doubt}

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """The hashes of each table: of its place, and of the table itself."""
        found: dict[str, tuple[str, str]] = {}
        for compute, step in self._steps.items():
            places = Places(step.connection, database_epoch(self.instance, self._warehouses[compute].database))
            nodes = step.manifest.content["nodes"]
            found |= {one: (places.place(nodes[one]), places.relation(nodes[one])) for one in self._of(compute)}
        return found

    @cached_property
    def fingerprints(self) -> dict[str, BuildFingerprint]:
        """The fingerprint of each table's current code."""
        found: dict[str, BuildFingerprint] = {}
        for compute, step in self._steps.items():
            every = build_fingerprints(step.manifest, step.connection)
            found |= {table: every[table] for table in self._of(compute)}
        return found

    @property
    def always_built(self) -> dict[str, str]:
        """Why tables are built in each run."""
        nodes = {
            table: step.manifest.content["nodes"][table]
            for compute, step in self._steps.items()
            for table in self._of(compute)
        }
        doubts = {table: found.doubt for table, found in self.fingerprints.items() if found.doubt}
        return {**doubts, **{table: node[ALWAYS_BUILT] for table, node in nodes.items() if ALWAYS_BUILT in node}}

    @property
    def unknown(self) -> dict[str, str]:
        """Why it is not known which build a table has."""
        return {
            one: _not_known_on(compute) for one in self.tables if (compute := self._compute(one)) not in self._steps
        }

    def existing(
        self, tables: Iterable[str], states: Mapping[str, State], shapes: Mapping[str, tuple[str, str]]
    ) -> dict[str, bool | None]:
        """Look up whether tables exist as their last build has left them, as :meth:`Warehouse.existing` does."""
        wanted = self.tables & {*tables}
        found: dict[str, bool | None] = dict.fromkeys(wanted)
        for compute, warehouse in self._warehouses.items():
            found |= warehouse.existing(wanted & self._of(compute), states, shapes)
        return found

    def afterwards(self) -> OtherComputes:
        """Return the tables as they are from now on."""
        return replace(self)

    @cached_property
    def _steps(self) -> dict[str, DbtStep]:
        """The step as it would be on each other compute that it reads, without computes that are not known."""
        computes = sorted({self._compute(table) for table in self.tables})
        return {compute: found for compute in computes if (found := _usable_on(self.step, compute)) is not None}

    @cached_property
    def _known(self) -> dict[str, DbtStep]:
        """The step as it is on each compute for which it is known what dbt builds, also on its own one."""
        every = {**self._steps, self.step.compute: self.step}
        return {compute: step for compute, step in every.items() if _has_names_of_profile(step)}

    @cached_property
    def _warehouses(self) -> dict[str, Warehouse]:
        return {
            compute: Warehouse(
                step, [step.manifest.content["nodes"][table] for table in sorted(self._of(compute))], [], self.log
            )
            for compute, step in self._steps.items()
        }

    @cached_property
    def _graphs(self) -> dict[str, BuildGraph]:
        """The graph of each compute, in which the table of a source is not that of a node."""
        every = {**self._steps, self.step.compute: self.step}
        graphs = {compute: project_graph(step.manifest, step.key_of, {}) for compute, step in every.items()}
        return {compute: replace(graph, built_sources={}) for compute, graph in graphs.items()}

    def _compute(self, unique_id: str) -> str:
        return self.step.compute_of(unique_id)

    def _of(self, compute: str) -> AbstractSet[str]:
        return {table for table in self.tables if self._compute(table) == compute}

    def _doubt_of_query(self, reader: str) -> str | None:
        """Return a doubt about what the query of a node or test names."""
        on, read = self._compute(reader), sorted(self._graphs[self.step.compute].direct_inputs(reader))
        for one in read:
            if (on, one) not in self._doubts:
                self._doubts[on, one] = self._doubt_of_table(on, one)
        return next((doubt for one in read if (doubt := self._doubts[on, one])), None)

    def _doubt_of_table(self, on: str, read: str) -> str | None:
        """Return a doubt about a table, view or source that a query on a compute names."""
        builder = self.graph.built_sources.get(read)
        if read in self.step.manifest.content["sources"]:
            source, assumed = self.step.manifest.content["sources"][read], self.step.product.config.assume_unchanged
            if on != self.step.compute and not is_assumed_unchanged(source, frozenset(assumed)):
                return f"it reads source {short_name(read)} through a view of compute {on}"
            return self._other_table(builder) if builder in self.tables else None
        by = self._compute(read)
        if by == on == self.step.compute:
            return None
        steps = self._known
        unknown = next((compute for compute in (by, on, self.step.compute) if compute not in steps), None)
        if unknown is not None:
            return f"it reads {short_name(read)}, and {_not_known_on(unknown)}"
        if not self._is_known_alike(read, self.step.compute, by) or not self._is_known_alike(read, on, by):
            return f"it reads {short_name(read)}, which has other settings on compute {by}"
        built, found = (steps[compute].manifest.content["nodes"][read] for compute in (by, on))
        # A view in a DuckDB file finds its tables in the databases of the connection that reads it.
        readers = {on, self.step.compute} if steps[on].connection.profile.adapter == "duckdb" else {on}
        places = (steps[compute].connection for compute in readers - {by if by == on else ""})
        is_same = all(is_same_table(steps[by].connection, built, place, found) for place in places)
        return None if is_same else self._other_table(read)

    def _is_known_alike(self, unique_id: str, one: str, other: str) -> bool:
        """Return whether a node is of one kind on two computes and, if it is a view, reads the same there."""
        kinds = {self._graphs[compute].kinds.get(unique_id) for compute in (one, other)}
        if kinds != {"view"}:
            return len(kinds) == 1
        return self._graphs[one].direct_inputs(unique_id) == self._graphs[other].direct_inputs(unique_id)

    def _other_table(self, unique_id: str | None) -> str:
        table = unique_id or ""
        return f"it may read another table than compute {self._compute(table)} builds as {short_name(table)}"


def _not_known_on(compute: str) -> str:
    return f"it is not known what dbt builds on compute {compute} (floe-dagster prepare)"
