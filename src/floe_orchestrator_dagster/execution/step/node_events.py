"""Dagster's events for the results of the nodes in a ``dbt build``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.execution.record.materializations import (
    column_schema,
    materialization,
    table_column_lineage,
    table_metadata,
    test_result,
    unassigned_result,
)
from floe_orchestrator_dagster.execution.step.failure import named, reload_fix
from floe_orchestrator_dagster.upstream.dagster_check_evaluations import output_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.dbt.node_result import BuiltTables, NodeResult
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.build_records import BuildRecords
    from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes
    from floe_orchestrator_dagster.execution.step.state_records import StateRecords
    from floe_orchestrator_dagster.execution.step.step_invocation import StepInvocation


class NodeEvents:
    """One ``dbt build`` of a step, and the events for its results."""

    def __init__(  # noqa: PLR0913, PLR0917  # events have parts of all of these
        self,
        step: DbtStep,
        invocation: StepInvocation,
        arguments: Sequence[str],
        unassigned: AbstractSet[str],
        records: BuildRecords | None = None,
        states: StateRecords | None = None,
    ) -> None:
        """Prepare the events.

        Args:
            step: The step's definition.
            invocation: The invocation of dbt.
            arguments: dbt's arguments.
            unassigned: Unique ids of selected nodes that belong to no asset or check of the step.
            records: Records the builds and the results of tests; None without records.
            states: Records the builds for the published state; None without such records.
        """
        self._step, self._invocation, self._arguments, self._unassigned = step, invocation, arguments, unassigned
        self._records, self._states = records, states
        outputs = output_names(invocation.context)
        self._output_of = {unique_id: outputs[key] for key, unique_id in step.nodes.assets.items() if key in outputs}
        self._check_of = step.nodes.check_of
        self._own = frozenset(step.nodes.assets.values())
        self._unknown: set[str] = set()

    def results(self) -> Iterator[NodeResult]:
        """Run dbt, and yield the result of each node as it ends; errors as :meth:`StepInvocation.run`."""
        return self._invocation.run(self._arguments)

    def event(self, result: NodeResult) -> dg.Output[None] | dg.AssetCheckResult | None:
        """Return the event for a result; None for a result without an event."""
        step, unique_id = self._step, result.unique_id
        node = self._invocation.nodes.get(unique_id, {})
        if unique_id not in self._invocation.nodes and (result.was_built or result.is_test) and not result.was_skipped:
            self._unknown.add(unique_id)
        target = self._invocation.target
        if self._records is not None and unique_id in self._own and not result.was_built:
            self._records.failed(unique_id)
        if result.was_built and unique_id in self._output_of:
            lasting = target.lasting_compiled_path(node) if result.resource_type != "seed" else None
            actual = self._actual(result, node)
            more, version = self._metadata(result, node, actual), None
            if self._records is not None:
                reported = [result.compiled_code] if result.compiled_code else []
                codes = target.compiled_codes(node) or reported
                recorded, version = self._records.built(result, actual, self._content, codes)
                more.update(recorded)
            if self._states is not None:
                more.update(self._states.metadata(result, actual))
            return materialization(result, self._output_of[unique_id], node, lasting, more, version)
        if result.is_test and unique_id in self._check_of:
            compiled = target.compiled_path(node) if result.resource_type == "test" else None
            event = test_result(result, self._check_of[unique_id], step.nodes.severities, compiled, node)
            if self._records is not None and event is not None:
                self._records.tested(result)
            return event
        if unique_id in self._unassigned or (result.has_failed and unique_id not in self._own):
            return unassigned_result(result, step.product_key)
        return None

    @contextmanager
    def unknown_nodes_reported(self) -> Iterator[None]:
        """Log a warning at the end about nodes that are not in the code location's manifest."""
        try:
            yield
        finally:
            if self._unknown:
                what = f"dbt ran nodes that are not assets or checks: {named(self._unknown)}"
                why = "They were added to the dbt project after the code location was loaded."
                self._invocation.context.log.warning("%s. %s %s", what, why, reload_fix())

    def _actual(self, result: NodeResult, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a node with the names of the table in this run, which the invocation's manifest has."""
        return _with_relation(self._content["nodes"].get(result.unique_id, node), result)

    @property
    def _content(self) -> Mapping[str, Any]:
        """The manifest with the names of tables in this run."""
        return (self._invocation.manifest or self._step.manifest).content

    def _metadata(self, result: NodeResult, node: Mapping[str, Any], actual: Mapping[str, Any]) -> dict[str, Any]:
        """Return the column lineage of a table, and its name if that differs from the asset's definition."""
        step, invocation = self._step, self._invocation
        found = invocation.column_lineage(result) if step.product.config.dbt.columns else None
        lineage = table_column_lineage(found, step.key_of) if found else None
        return {
            **({} if actual is node else table_metadata(actual)),
            **({"dagster/column_lineage": lineage} if lineage else {}),
        }


def _with_relation(node: Mapping[str, Any], result: NodeResult) -> Mapping[str, Any]:
    """Return a node with the names of the table that dbt has built; the node itself if it has the same names."""
    relation = result.relation
    built = {"database": relation.database, "schema": relation.schema, "alias": relation.alias}
    named = {name: value for name, value in built.items() if value}
    if all(str(node.get(name) or "").lower() == value.lower() for name, value in named.items()):
        return node
    return {**node, **named}


def record_tables(
    context: dg.OpExecutionContext,
    described: Mapping[str, Mapping[str, Any]],
    nodes: DbtNodes,
    tables: BuiltTables,
) -> None:
    """Record the columns and numbers of rows of assets, if these become known after their materialization.

    Args:
        context: The step's context.
        described: The manifest's nodes, by unique id.
        nodes: The step's nodes.
        tables: The columns and rows.
    """
    for key, unique_id in nodes.assets.items():
        metadata: dict[str, Any] = {}
        if unique_id in tables.columns:
            metadata["dagster/column_schema"] = column_schema(tables.columns[unique_id], described.get(unique_id, {}))
        if unique_id in tables.rows:
            metadata["dagster/row_count"] = tables.rows[unique_id]
        if metadata:
            context.log_event(dg.AssetObservation(key, partition=_partition(context, key), metadata=metadata))


def _partition(context: dg.OpExecutionContext, key: dg.AssetKey) -> str | None:
    """Return the partition of an asset that the run builds; None for several, and for an asset without partitions."""
    is_partitioned = context.has_partition_key or context.has_partition_key_range
    if not is_partitioned or context.assets_def.get_asset_spec(key).partitions_def is None:
        return None
    keys = context.partition_key_range
    return keys.start if keys.start == keys.end else None
