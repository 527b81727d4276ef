"""Lineage of a step: starts and results of dbt's nodes as OpenLineage events, emitted while dbt runs."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.errors import LineageError, Problem
from floe_orchestrator_dagster.execution.step.product_lineage import ProductRun, installed_version, lineage_run
from floe_orchestrator_dagster.lineage.delivery.emitter import emitter_for
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import dagster as dg
    from openlineage.client.event_v2 import RunEvent

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult, NodeStart
    from floe_orchestrator_dagster.execution.dbt.target import Target
    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
    from floe_orchestrator_dagster.lineage.events.dbt_events import DbtEvents
    from floe_orchestrator_dagster.lineage.events.run import LineageRun
    from floe_orchestrator_dagster.product import DbtConnection, Product
    from floe_orchestrator_dagster.product.manifest import Manifest

RUN_TAG = "floe/lineage"
# Settings of an output that are part of the names of its tables.
_LOCATIONS = ("database", "dbname", "catalog", "project", "schema", "dataset", "path")


class StepLineage:
    """The lineage of one dbt invocation of a step."""

    def __init__(
        self,
        emitter: LineageEmitter,
        run: LineageRun,
        dbt: DbtConnection,
        target: Target,
        log: dg.DagsterLogManager,
    ) -> None:
        """Prepare the events. dbt's manifest is read for the first event, because dbt writes it before that."""
        from floe_orchestrator_dagster.lineage.delivery.run_journal import RunJournal

        self._emitter, self._run, self._dbt, self._target, self._log = emitter, run, dbt, target, log
        self._product = run.product
        self.manifest = run.product.dbt.manifest if run.product.dbt else None
        """The product's manifest; the invocation replaces it with one that has the names of tables in this run."""
        self._open_runs = RunJournal(emitter.directory, run.dagster_run_id)
        self._events: DbtEvents | None = None
        self.is_usable = True
        """Whether events can be created; otherwise the run log says why."""
        self._faults = 0

    def node_started(self, start: NodeStart) -> None:
        """Emit the start of a node.

        Raises:
            LineageError: With ``lineage.strict``: the event is incomplete. It is emitted before the error is raised.
                Without ``strict``, a warning is logged instead.
        """
        self._guarded(lambda events: events.start(start))

    def node_ended(self, result: NodeResult, causes: Sequence[NodeResult] = ()) -> None:
        """Emit the result of a node.

        Args:
            result: The node's result.
            causes: The failures that caused dbt to skip the node.

        Raises:
            LineageError: As :meth:`node_started`.
        """
        if causes:
            names = ", ".join(cause.unique_id for cause in causes)
            result = replace(result, message=f"dbt skipped it because of {names}")
        self._guarded(lambda events: events.end(self._with_compiled_code(events, result)))

    def _with_compiled_code(self, events: DbtEvents, result: NodeResult) -> NodeResult:
        """Return the result with the compiled SQL, which dbt-core writes only to a file."""
        if result.compiled_code is not None:
            return result
        try:
            return replace(result, compiled_code=self._compiled(result.unique_id))
        except Exception as error:  # noqa: BLE001  # reported with the faults of the events
            events.note_fault(result.unique_id, error)
            return result

    def column_lineage(self, unique_id: str) -> ColumnLineage | None:
        """Return the column lineage of a built table; None when it is unknown."""
        return self._events.column_lineage(unique_id) if self._events is not None else None

    def freshness(self, results: Iterable[NodeResult]) -> None:
        """Emit the results of source freshness.

        Raises:
            LineageError: As :meth:`node_started`.
        """
        self._guarded(lambda events: events.freshness(results))

    def end(self, why: str) -> None:
        """Emit the ends of open runs. Runs that cannot be ended stay in the journal, and the sensors end them.

        Raises:
            LineageError: As :meth:`node_started`.
        """
        try:
            if self._events is not None:
                self._guarded(lambda events: events.abort(why, _now()))
        finally:
            self._open_runs.close()
            if self._faults > 1:
                self._log.warning("Lineage: %d more events are incomplete or missing.", self._faults - 1)

    def _guarded(self, make: Callable[[DbtEvents], Iterable[RunEvent]]) -> None:
        """Create events and emit them. An error is reported, and does not prevent later events."""
        if not self.is_usable:
            return
        try:
            events = self._dbt_events
        except Exception as error:  # noqa: BLE001  # a warning, or an error with `lineage.strict`
            self.is_usable = False
            self._report("no event could be created", error)
            return
        try:
            self._emit(make(events))
        except Exception as error:  # noqa: BLE001  # as above
            self._report("an event could not be created", error)
        for fault in events.take_faults():
            self._report(f"the event of {fault.unique_id} is incomplete", fault.error)

    def _report(self, what: str, error: Exception) -> None:
        """Log the first fault as a warning, and count the others; the first is an error with ``lineage.strict``."""
        self._faults += 1
        if self._faults > 1:
            return
        fix = "Please report it. `lineage.enabled: false` disables lineage."
        problem = Problem("lineage", f"{what} ({type(error).__name__}: {error})", fix)
        refused = LineageError(self._product.origin, [problem])
        if self._product.config.lineage.strict:
            raise refused from error
        self._log.warning("%s", refused)

    def _emit(self, events: Iterable[RunEvent]) -> None:
        refused = [error for event in events if (error := self._refusal(event)) is not None]
        if refused:
            raise refused[0]

    def _refusal(self, event: RunEvent) -> ValueError | None:
        """Emit an event; return the error if it cannot be written as JSON, so that the other events are emitted."""
        try:
            self._open_runs.emit(event, self._emitter.emit)
        except ValueError as error:
            return error
        return None

    @property
    def _dbt_events(self) -> DbtEvents:
        if self._events is None:
            from floe_orchestrator_dagster.lineage.datasets.computes import read_computes
            from floe_orchestrator_dagster.lineage.events.dbt_events import DbtEvents

            directory = PurePosixPath(self._dbt.directory.path)
            computes = read_computes(self._product, self._dbt.profile, self._dbt.profile.environment, directory)
            self._events = DbtEvents(self._run, self._manifest(), computes, log=self._log)
        return self._events

    def _manifest(self) -> Manifest:
        """Return the product's manifest, or dbt's new one for another target, which can have other nodes."""
        own = self._target.path / MANIFEST_FILE
        if self.manifest is not None and (not is_of_other_target(self._product, self._dbt) or not own.is_file()):
            return self.manifest
        return read_manifest(own)

    def _compiled(self, unique_id: str) -> str | None:
        content = self._product.dbt.manifest.content if self._product.dbt else {"nodes": {}}
        node = content["nodes"].get(unique_id)
        return self._target.compiled_code(node) if node else None


def is_of_other_target(product: Product, dbt: DbtConnection) -> bool:
    """Whether dbt's target differs from the target of the product's manifest."""
    return product.dbt is None or dbt.profile.target != product.dbt.profile.target


def may_have_other_names(product: Product, dbt: DbtConnection) -> bool:
    """Whether tables can have other names in this run than in the product's manifest.

    dbt-core always reports the names of all tables. dbt v2 reports them after a separate parse. This is only needed on
    another target, or if the output reads variables for its database or schema.
    """
    output = dbt.profile.outputs.get(dbt.profile.target or "", {})
    is_templated = any("{{" in str(output.get(name, "")) for name in _LOCATIONS)
    return is_of_other_target(product, dbt) or (dbt.is_on_v2 and is_templated)


@contextmanager
def step_lineage(  # noqa: PLR0913, PLR0917  # a step needs all of these
    context: dg.OpExecutionContext,
    product: Product,
    dbt: DbtConnection,
    target: Target | None,
    steps: Sequence[str],
    period: tuple[datetime, datetime] | None = None,
    traceparent: str | None = None,
) -> Iterator[StepLineage | None]:
    """Emit the lineage of a dbt invocation and of the product's run.

    At the end it waits until the events are delivered, for ``lineage.flush_seconds`` at most. The product's run starts
    with its first step in the Dagster run, and ends with its last one. Events that no step could emit, for example
    because the step was killed, are emitted by ``automation.lineage_sensors`` after the end of the Dagster run.

    Args:
        context: The step's context.
        product: The product.
        dbt: The dbt project and profile.
        target: The invocation's target directory; None without an invocation.
        steps: Names of all steps of the product that run dbt.
        period: Start and end of the run's time partition.
        traceparent: The step's trace in W3C's format.

    Raises:
        LineageError: With ``lineage.strict``: the backend has not accepted all events.
    """
    emitter = emitter_for(product.artifacts, product.config.lineage, run=context.run_id, log=context.log)
    if emitter is None:
        yield None
        return
    run = _step_run(context, product, dbt, period, traceparent)
    lineage = StepLineage(emitter, run, dbt, target, context.log) if target else None
    product_run = ProductRun(context, steps, run, emitter)
    with emitter:
        product_run.start()
        try:
            yield lineage
        except BaseException as error:
            # The exceptions of Dagster's interrupt and of a closed generator are not subclasses of `Exception`.
            why = str(error) if isinstance(error, Exception) else "the step was interrupted"
            with suppress(LineageError):
                _end(lineage, why)
            product_run.end(error)
            with suppress(LineageError):  # it is in the run's log, and the step fails with the first error
                _flush(emitter, context, product)
            raise
        _end(lineage, "dbt ended before the end of this node")
        product_run.end()
        _flush(emitter, context, product)


def _end(lineage: StepLineage | None, why: str) -> None:
    if lineage is not None:
        lineage.end(why)


def _flush(emitter: LineageEmitter, context: dg.OpExecutionContext, product: Product) -> None:
    if not emitter.deliveries().emitted:
        return
    attributes = telemetry.product_attributes(product.artifacts.observability.telemetry)
    with telemetry.operation("lineage.flush", attributes):
        try:
            emitter.flush()
        finally:
            counts = emitter.deliveries().counts
            context.log.info("lineage: %s", counts)
            context.instance.add_run_tags(context.run_id, {RUN_TAG: counts})


def _step_run(
    context: dg.OpExecutionContext,
    product: Product,
    dbt: DbtConnection,
    period: tuple[datetime, datetime] | None,
    traceparent: str | None,
) -> LineageRun:
    adapter, engine = dbt.profile.adapter or "", dbt.engine
    # dbt v2 contains its adapters.
    adapter_version = installed_version(f"dbt-{adapter}") if engine.kind == "core" else ""
    return replace(
        lineage_run(product, context.instance, context.run),
        step_key=context.get_step_execution_context().step.key,
        retry_number=context.retry_number,
        window=period,
        dbt_version=engine.version,
        adapter=f"{adapter} {adapter_version}".strip(),
        traceparent=traceparent or "",
    )


def _now() -> datetime:
    return datetime.now(tz=timezone.utc)
