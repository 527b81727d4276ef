"""OpenLineage events of a dbt invocation.

The functions are pure: they convert the starts and results of nodes to openlineage-python's ``RunEvent``. Each dbt
invocation has one :class:`DbtEvents`::

    run = LineageRun(product, context.run_id, context.job_name, created_at, producer, step_key=…, retry_number=…)
    computes = read_computes(product, profile, os.environ, PurePosixPath(project_directory))
    events = DbtEvents(run, manifest, computes)
    for value in invocation:
        emitter.emit(events.start(value))  # or events.end(value)
    emitter.emit(events.abort("dbt was interrupted", now))  # ends all open nodes

A node has one START and one COMPLETE, FAIL or ABORT, with the same run id, inputs and outputs. The end has more facets,
such as column lineage. A repeated start or end has no event. A run id depends only on the run, the step, its retry and
the node, so that another process can emit the end. Source freshness has separate events (:meth:`DbtEvents.freshness`).
Events of the product and of Python assets are in :mod:`python_assets`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
from openlineage.client.facet_v2 import data_quality_assertions_dataset, external_query_run

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult, NodeStart
from floe_orchestrator_dagster.lineage.datasets.computes import Computes, ComputeTarget
from floe_orchestrator_dagster.lineage.events.assertions import TestEnd
from floe_orchestrator_dagster.lineage.events.nodes import Nodes
from floe_orchestrator_dagster.lineage.events.run import (
    LineageRun,
    RunReference,
    State,
    engine_facet,
    error_facet,
    event_time,
    run_event,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent
    from openlineage.client.facet_v2 import RunFacet

    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.lineage.datasets.names import DatasetIdentity, Warehouse
    from floe_orchestrator_dagster.product.manifest import Manifest

logger = logging.getLogger(__name__)

_RUNS = ("model", "seed", "snapshot", "test", "unit_test", "source")
_TESTS = ("test", "unit_test")
_CANCELLED = "cancelled"


@dataclass(frozen=True)
class Fault:
    """An incomplete event.

    Attributes:
        unique_id: dbt's unique id of the node.
        error: The error that explains missing datasets and facets.
    """

    unique_id: str
    error: Exception


class DbtEvents:
    """The events of one dbt invocation, in the order of its starts and results."""

    def __init__(
        self,
        run: LineageRun,
        manifest: Manifest,
        place: Computes | Warehouse,
        columns: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        log: logging.Logger = logger,
    ) -> None:
        """Start without open nodes.

        Args:
            run: The step that runs dbt.
            manifest: The product's trimmed manifest; for a run on another target, the invocation's.
            place: The targets of the invocation and of other computes.
            columns: All columns of relations that are known before dbt runs, by unique id: the type by column name.
            log: Receives a warning when the SQL of a node exceeds a limit.
        """
        self._run = run
        self._manifest = manifest
        computes = place if isinstance(place, Computes) else Computes(ComputeTarget(place))
        self._nodes = Nodes(run.product, manifest, computes, columns, log)
        self._open: dict[str, NodeStart] = {}
        self._starts: dict[str, RunEvent] = {}
        self._faults: list[Fault] = []
        self._ended: dict[str, str] = {}
        self._occurrences: dict[str, int] = {}
        self._lineages: dict[str, ColumnLineage] = {}

    @property
    def open(self) -> list[str]:
        """Unique ids of nodes that have started and not ended."""
        return list(self._open)

    def note_fault(self, unique_id: str, error: Exception) -> None:
        """Record the error that makes the next event of a node incomplete."""
        self._faults.append(Fault(unique_id, error))

    def take_faults(self) -> list[Fault]:
        """Return the faults since the last call. Their events lack facets; an end has the datasets of its START."""
        faults, self._faults = self._faults, []
        return faults

    def column_lineage(self, unique_id: str) -> ColumnLineage | None:
        """Return the column lineage of an ended node, for Dagster's metadata; None when it is unknown."""
        return self._lineages.get(unique_id)

    def identity(self, unique_id: str) -> DatasetIdentity:
        """Return the dataset of a model, seed, snapshot or source."""
        return self._nodes.identity(unique_id)

    def boundary(self, unique_ids: Iterable[str]) -> tuple[list[InputDataset], list[OutputDataset]]:
        """Return the datasets of a product event: inputs that none of these nodes builds, and all outputs.

        A consumer that connects tables through jobs then shows an edge from each of these inputs to each output, in
        addition to the edges from the nodes' events.
        """
        nodes = self._nodes
        made = [relation for unique_id in unique_ids for relation in nodes.makes(unique_id)]
        read = dict.fromkeys(parent for unique_id in made for parent in nodes.reads(unique_id))
        outside = [parent for parent in read if parent not in made]
        return nodes.inputs(outside, None), nodes.outputs(made, None, None)

    def start(self, start: NodeStart) -> list[RunEvent]:
        """Return the event of a node's start; empty for an ephemeral model or an exposure."""
        if not self._is_run(start) or self._has_ended(start) or start.unique_id in self._open:
            return []
        self._open[start.unique_id] = start
        self._nodes.learn(start)
        self._starts[start.unique_id] = self._event(start, "START", start.time)
        return [self._starts[start.unique_id]]

    def end(self, result: NodeResult) -> list[RunEvent]:
        """Return the event of a node's end, and of its start if dbt did not report it.

        Args:
            result: The node's result. Column lineage needs its ``compiled_code`` and ``columns``.
        """
        if not self._is_run(result.start) or self._has_ended(result.start):
            return []
        return self._end(result, _state_of(result))

    def freshness(self, results: Iterable[NodeResult]) -> list[RunEvent]:
        """Return START and end of source freshness checks, except for sources whose events were returned before."""
        return [event for result in results for event in self.end(result)]

    def abort(self, why: str, at: datetime, unique_ids: Sequence[str] | None = None) -> list[RunEvent]:
        """Return ABORT events of all open nodes, or of ``unique_ids``, which another process can have started.

        Args:
            why: Text of ``errorMessage``.
            at: Time of the events.
            unique_ids: Nodes to end although they did not start here; their STARTs are not repeated.
        """
        aborted: list[RunEvent] = []
        for unique_id in self.open if unique_ids is None else unique_ids:
            if unique_id in self._ended:
                continue
            start = self._open.setdefault(unique_id, NodeStart(unique_id, unique_id.partition(".")[0]))
            aborted += self._end(_cancelled(start, why, event_time(at)), "ABORT")
        return aborted

    def _is_run(self, start: NodeStart) -> bool:
        known = self._manifest.content["nodes"].get(start.unique_id, {})
        materialized = start.materialized or (known.get("config") or {}).get("materialized")
        return start.unique_id.partition(".")[0] in _RUNS and materialized != "ephemeral"

    def _has_ended(self, start: NodeStart) -> bool:
        """Whether a node has ended in this invocation. In another invocation, its run is a different one."""
        ended = self._ended.get(start.unique_id)
        if ended is None or start.invocation_id in {"", ended}:
            return ended is not None
        del self._ended[start.unique_id]
        self._occurrences[start.unique_id] = self._occurrences.get(start.unique_id, 0) + 1
        return False

    def _end(self, result: NodeResult, state: State) -> list[RunEvent]:
        unique_id = result.unique_id
        events = [] if unique_id in self._open else self.start(result.start)
        self._nodes.learn(result)
        events.append(self._event(result, state, result.finished))
        del self._open[unique_id]
        self._starts.pop(unique_id, None)
        self._ended[unique_id] = result.invocation_id
        return events

    def _event(self, node: NodeStart | NodeResult, state: State, time: str) -> RunEvent:
        """Return the event of a start or an end; after an error, an incomplete event (see :meth:`take_faults`)."""
        time = time or event_time(self._run.created_at)
        try:
            if isinstance(node, NodeStart):
                return self._started(node, time)
            return self._ended_as(node, state, time)
        except Exception as error:  # noqa: BLE001  # reported as a fault; the run must not stay open
            self.note_fault(node.unique_id, error)
            return self._plain(node, state, time)

    def _plain(self, node: NodeStart | NodeResult, state: State, time: str) -> RunEvent:
        run = self._run
        facets = run.run_facets(run.product_run, node.invocation_id)
        if isinstance(node, NodeResult) and state in {"FAIL", "ABORT"}:
            facets["errorMessage"] = error_facet(node.message or node.status, "sql")
        plain = run_event(run, self._reference(node.unique_id), state, time, run_facets=facets, job_facets={})
        start = self._starts.get(node.unique_id)
        return plain if start is None else attrs.evolve(start, **_changes(plain))

    def _started(self, start: NodeStart, time: str) -> RunEvent:
        nodes, unique_id = self._nodes, start.unique_id
        return run_event(
            self._run,
            self._reference(unique_id),
            "START",
            time,
            run_facets=self._run_facets(start.invocation_id),
            job_facets=nodes.job_facets(unique_id, None),
            inputs=nodes.inputs(nodes.reads(unique_id), None),
            outputs=nodes.outputs(nodes.makes(unique_id), None, None),
        )

    def _ended_as(self, result: NodeResult, state: State, time: str) -> RunEvent:
        nodes, unique_id = self._nodes, result.unique_id
        made = nodes.makes(unique_id)
        lineage = nodes.column_lineage(result)
        if lineage is not None:
            self._lineages[unique_id] = lineage
        read = nodes.reads(unique_id)
        inputs, outputs = nodes.inputs(read, lineage), nodes.outputs(made, lineage, result)
        if state == "COMPLETE" and result.resource_type not in _TESTS:
            for relation, dataset in zip((*read, *made), (*inputs, *outputs), strict=True):
                dataset.facets = {**(dataset.facets or {}), **nodes.consumer_facets(relation)}
        facets = {**self._run_facets(result.invocation_id), **self._result_facets(result, state)}
        if not made:
            end = TestEnd(nodes.node(unique_id), result)
            facets["test"] = end.test_facet()
            if state != "ABORT":
                _assert_on(inputs, end, is_direct=nodes.tests_table_itself(unique_id))
        return run_event(
            self._run,
            self._reference(unique_id),
            state,
            time,
            run_facets=facets,
            job_facets=nodes.job_facets(unique_id, result.compiled_code),
            inputs=inputs,
            outputs=outputs,
        )

    def _reference(self, unique_id: str) -> RunReference:
        return self._run.job_run(unique_id, self._occurrences.get(unique_id, 0))

    def _run_facets(self, invocation_id: str) -> dict[str, RunFacet]:
        run = self._run
        return {**run.run_facets(run.product_run, invocation_id), **engine_facet("dbt", run.dbt_version, run)}

    def _result_facets(self, result: NodeResult, state: State) -> dict[str, RunFacet]:
        facets: dict[str, RunFacet] = {}
        if state in {"FAIL", "ABORT"}:
            why = result.message or ("dbt skipped it" if result.was_skipped else result.status)
            language = str(self._nodes.node(result.unique_id).get("language") or "sql")
            facets["errorMessage"] = error_facet(why, language)
        if result.query_id:
            namespace = self._nodes.namespace
            facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(result.query_id, namespace)
        return facets


def _state_of(result: NodeResult) -> State:
    """Return the state of a node's run."""
    return "FAIL" if result.has_failed else "ABORT" if result.was_skipped else "COMPLETE"


def _cancelled(start: NodeStart, why: str, time: str) -> NodeResult:
    """Return the result of a node that was interrupted."""
    return NodeResult(
        start.unique_id,
        start.unique_id.rpartition(".")[2],
        start.resource_type,
        start.materialized,
        _CANCELLED,
        why,
        finished=time,
        relation=start.relation,
        invocation_id=start.invocation_id,
    )


def _changes(event: RunEvent) -> dict[str, Any]:
    """Return the fields in which a node's end always differs from its start."""
    return {"eventType": event.eventType, "eventTime": event.eventTime, "run": event.run}


def _assert_on(inputs: Sequence[InputDataset], end: TestEnd, *, is_direct: bool) -> None:
    """Attach a test's result to its table, which is the first input, or else to all inputs."""
    about = inputs[:1] if is_direct else inputs
    for dataset in about:
        assertion = end.assertion(of_column=is_direct)
        facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=[assertion])
        dataset.inputFacets = {**(dataset.inputFacets or {}), "dataQualityAssertions": facet}
