"""OpenLineage events of a product: of its dbt nodes while dbt runs, of the product itself, of Python assets.

Everything here is pure: artifacts and log events come in as values, events go out as openlineage-python's ``RunEvent``.
Who runs dbt makes one :class:`DbtEvents` per dbt invocation and hands it every structured log event in turn::

    run = LineageRun(product, context.run_id, context.job_name, created_at, producer, step_key=…, retry_number=…)
    computes = read_computes(product, profile, os.environ, PurePosixPath(project_directory))
    events = DbtEvents(run, manifest, computes)
    for log_event in dbt:
        emitter.emit(events.observe(log_event, outcome_of_the_node_if_it_ended))
    emitter.emit(events.abort("dbt was interrupted", now))  # ends what is still open; nothing when all has ended

An outcome is what the log does not say: the compiled SQL (``{target path}/compiled/{package}/{original_file_path}``),
the columns after the run, and of dbt's result the adapter's response and message (:func:`outcome_of` reads them from
``run_results.json`` or from ``NodeFinished``). Each part may be missing. Source freshness comes from ``sources.json``
(:meth:`DbtEvents.freshness`), what is no dbt node from :func:`product_event` and :func:`asset_event`.

A node that starts is one START; its end is one COMPLETE, FAIL or ABORT with the same run id, inputs and outputs,
enriched by what is known then. Log events that dbt repeats (``NodeStart`` and ``LogStartLine``, ``LogModelResult`` and
``NodeFinished``) count once, the first time. Run ids depend on the run, the step, its retry and the node only, so that
another process can end what this one started.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
from openlineage.client.facet_v2 import data_quality_assertions_dataset, external_query_run

from floe_orchestrator_dagster.lineage.datasets.computes import Computes, ComputeTarget
from floe_orchestrator_dagster.lineage.events.assertions import TestEnd
from floe_orchestrator_dagster.lineage.events.event_fields import engine_facet, error_facet, run_event
from floe_orchestrator_dagster.lineage.events.node_events import (
    NodeSignal,
    State,
    freshness_times,
    read_signal,
    state_of,
)
from floe_orchestrator_dagster.lineage.events.node_outcome import NodeOutcome, freshness_outcome, outcome_of
from floe_orchestrator_dagster.lineage.events.nodes import Nodes
from floe_orchestrator_dagster.lineage.events.python_assets import (
    PythonAsset,
    asset_dataset,
    asset_event,
    product_event,
)
from floe_orchestrator_dagster.lineage.events.run import LineageRun, RunReference, event_time, read_parent_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent
    from openlineage.client.facet_v2 import RunFacet

    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.lineage.datasets.names import DatasetIdentity, Warehouse
    from floe_orchestrator_dagster.product.manifest import Manifest

__all__ = [
    "DbtEvents",
    "Fault",
    "LineageRun",
    "NodeOutcome",
    "PythonAsset",
    "RunReference",
    "State",
    "asset_dataset",
    "asset_event",
    "event_time",
    "outcome_of",
    "product_event",
    "read_parent_id",
]

_NOTHING = NodeOutcome()


@dataclass(frozen=True)
class Fault:
    """An event that says less than it should.

    Attributes:
        unique_id: The node.
        error: Why its datasets and facets could not be determined.
    """

    unique_id: str
    error: Exception


class DbtEvents:
    """The events of one dbt invocation, in the order of its log."""

    def __init__(
        self,
        run: LineageRun,
        manifest: Manifest,
        place: Computes | Warehouse,
        columns: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        """Begin with nothing open.

        Args:
            run: Who runs dbt.
            manifest: The product's, or on another target than its own the invocation's, trimmed
                (``product.manifest.trim``).
            place: Where the nodes are: on the invocation's target, on those of other computes.
            columns: The columns (name → type) of relations that are known before dbt runs, by unique id: all of a
                relation's or none.
        """
        self._run = run
        self._manifest = manifest
        computes = place if isinstance(place, Computes) else Computes(ComputeTarget(place))
        self._nodes = Nodes(run.product, manifest, computes, columns)
        self._open: dict[str, NodeSignal] = {}
        self._starts: dict[str, RunEvent] = {}
        self._faults: list[Fault] = []
        self._ended: dict[str, tuple[str, State]] = {}
        self._occurrences: dict[str, int] = {}
        self._lineages: dict[str, ColumnLineage] = {}

    @property
    def open(self) -> list[str]:
        """Unique ids of the nodes that have started and not ended."""
        return list(self._open)

    def note_fault(self, unique_id: str, error: Exception) -> None:
        """Note why the next event of a node says less than it should."""
        self._faults.append(Fault(unique_id, error))

    def take_faults(self) -> list[Fault]:
        """Return the faults since the last call: their events name run, job and state, and at most what START said."""
        faults, self._faults = self._faults, []
        return faults

    def column_lineage(self, unique_id: str) -> ColumnLineage | None:
        """Give the column lineage of a node whose end has been observed, for Dagster's metadata; None without."""
        return self._lineages.get(unique_id)

    def identity(self, unique_id: str) -> DatasetIdentity:
        """Name the dataset of a model, seed, snapshot or source."""
        return self._nodes.identity(unique_id)

    def boundary(self, unique_ids: Iterable[str]) -> tuple[list[InputDataset], list[OutputDataset]]:
        """Make the datasets of a product event: what these nodes read that none of them makes, and what they make.

        A consumer that draws tables as connected by jobs then draws every one of these inputs as connected with every
        output, besides the real connections that the nodes' events make.
        """
        nodes = self._nodes
        made = [relation for unique_id in unique_ids for relation in nodes.makes(unique_id)]
        read = dict.fromkeys(parent for unique_id in made for parent in nodes.reads(unique_id))
        outside = [parent for parent in read if parent not in made]
        return nodes.inputs(outside, None), nodes.outputs(made, None, None)

    def observe(self, event: Mapping[str, Any], outcome: NodeOutcome | None = None) -> list[RunEvent]:
        """Take dbt's next log event; returns the lineage events that it makes, mostly none.

        Args:
            event: As dbt prints it with ``--log-format json``.
            outcome: What else is known of the node that this event ends.
        """
        signal = read_signal(event, self._manifest)
        return [] if signal is None else self._take(signal, outcome)

    def freshness(self, results: Iterable[Mapping[str, Any]]) -> list[RunEvent]:
        """Make the events of source freshness checks, START and end, from ``results`` of ``sources.json``.

        A source whose freshness has already been observed in dbt's log has its events.
        """
        events: list[RunEvent] = []
        for result in results:
            unique_id = str(result.get("unique_id") or "")
            if not unique_id or unique_id in self._ended:
                continue
            start, end = freshness_times(result)
            status = str(result.get("status") or "").lower()
            began = NodeSignal(unique_id, "START", "started", start, "")
            ended = replace(began, state=state_of(status, is_error=True), status=status, time=end)
            events += [*self._take(began, None), *self._take(ended, freshness_outcome(result))]
        return events

    def abort(self, why: str, at: datetime, unique_ids: Sequence[str] | None = None) -> list[RunEvent]:
        """End nodes with ABORT: those still open, or ``unique_ids``, which another process may have started.

        Args:
            why: Said in ``errorMessage``.
            at: When.
            unique_ids: Nodes to end even though they have not started here; their STARTs are not repeated.
        """
        aborted: list[RunEvent] = []
        for unique_id in self.open if unique_ids is None else unique_ids:
            if unique_id in self._ended:
                continue
            started = self._open.get(unique_id) or NodeSignal(unique_id, "START", "started", event_time(at), "")
            self._open[unique_id] = started
            signal = replace(started, state="ABORT", status="cancelled", time=event_time(at), message=why)
            aborted += self._take(signal, NodeOutcome(message=why))
        return aborted

    def _take(self, signal: NodeSignal, outcome: NodeOutcome | None) -> list[RunEvent]:
        unique_id, ended = signal.unique_id, self._ended.get(signal.unique_id)
        if ended is not None and signal.invocation_id not in {"", ended[0]}:
            del self._ended[unique_id]
            self._occurrences[unique_id] = self._occurrences.get(unique_id, 0) + 1
        elif ended is not None or (signal.state == "START" and unique_id in self._open):
            return []
        if signal.state == "START":
            self._open[unique_id] = signal
            self._nodes.learn(unique_id, signal.relation, {})
            self._starts[unique_id] = self._event(signal, _NOTHING)
            return [self._starts[unique_id]]
        events = [] if unique_id in self._open else self._take(_as_start(signal), None)
        known = _complete(signal, outcome)
        self._nodes.learn(unique_id, signal.relation, known.columns)
        events.append(self._event(signal, known))
        del self._open[unique_id]
        self._starts.pop(unique_id, None)
        self._ended[unique_id] = (signal.invocation_id, signal.state)
        return events

    def _event(self, signal: NodeSignal, outcome: NodeOutcome) -> RunEvent:
        """Describe the start or the end of a node; with few words where something about the node is odd."""
        try:
            return self._described(signal, outcome)
        except Exception as error:  # noqa: BLE001  # reported by whoever takes the faults; the run must not stay open
            self.note_fault(signal.unique_id, error)
            return self._plain(signal, outcome)

    def _plain(self, signal: NodeSignal, outcome: NodeOutcome) -> RunEvent:
        run = self._run
        facets = run.run_facets(run.product_run, signal.invocation_id)
        if signal.state in {"FAIL", "ABORT"}:
            facets["errorMessage"] = error_facet(outcome.message or signal.message or signal.status, "sql")
        reference = run.job_run(signal.unique_id, self._occurrences.get(signal.unique_id, 0))
        time = signal.time or event_time(run.created_at)
        plain = run_event(run, reference, signal.state, time, run_facets=facets, job_facets={})
        start = self._starts.get(signal.unique_id)
        return plain if start is None else attrs.evolve(start, **_state_of(plain))

    def _described(self, signal: NodeSignal, outcome: NodeOutcome) -> RunEvent:
        nodes, unique_id = self._nodes, signal.unique_id
        made = nodes.makes(unique_id)
        lineage = nodes.lineage(unique_id, outcome)
        if lineage is not None:
            self._lineages[unique_id] = lineage
        inputs = nodes.inputs(nodes.reads(unique_id), lineage)
        facets = self._run_facets(signal, outcome)
        if not made and signal.state != "START":
            end = TestEnd(nodes.node(unique_id), signal.status, outcome)
            facets["test"] = end.test_facet()
            if signal.state != "ABORT":
                _assert_on(inputs, end, is_direct=nodes.tests_table_itself(unique_id))
        return run_event(
            self._run,
            self._run.job_run(unique_id, self._occurrences.get(unique_id, 0)),
            signal.state,
            signal.time or event_time(self._run.created_at),
            run_facets=facets,
            job_facets=nodes.job_facets(unique_id, outcome.compiled_code),
            inputs=inputs,
            outputs=nodes.outputs(made, lineage, outcome),
        )

    def _run_facets(self, signal: NodeSignal, outcome: NodeOutcome) -> dict[str, RunFacet]:
        facets = {
            **self._run.run_facets(self._run.product_run, signal.invocation_id),
            **engine_facet("dbt", self._run.dbt_version, self._run),
        }
        if signal.state in {"FAIL", "ABORT"}:
            why = outcome.message or ("dbt skipped it" if signal.status == "skipped" else "")
            language = str(self._nodes.node(signal.unique_id).get("language") or "sql")
            facets["errorMessage"] = error_facet(why or signal.message or signal.status, language)
        if outcome.query_id:
            namespace = self._nodes.namespace
            facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(outcome.query_id, namespace)
        return facets


def _state_of(event: RunEvent) -> dict[str, Any]:
    return {"eventType": event.eventType, "eventTime": event.eventTime, "run": event.run}


def _as_start(signal: NodeSignal) -> NodeSignal:
    """Start a node of which dbt only reported the end, such as a skipped one."""
    return replace(signal, state="START", status="started", message="")


def _complete(signal: NodeSignal, outcome: NodeOutcome | None) -> NodeOutcome:
    """Add to what the caller knows what the log event itself says."""
    reported = outcome_of(signal.result)
    known = outcome or reported
    return replace(
        known,
        adapter_response=known.adapter_response or reported.adapter_response,
        message=known.message or reported.message,
        failures=next(
            (count for count in (known.failures, reported.failures, signal.failures) if count is not None), None
        ),
    )


def _assert_on(inputs: Sequence[InputDataset], end: TestEnd, *, is_direct: bool) -> None:
    """Attach a test's result: to the table that it is about, the first one, else to all that it reads."""
    about = inputs[:1] if is_direct else inputs
    for dataset in about:
        assertion = end.assertion(of_column=is_direct)
        facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=[assertion])
        dataset.inputFacets = {**(dataset.inputFacets or {}), "dataQualityAssertions": facet}
