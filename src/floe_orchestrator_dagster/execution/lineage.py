"""Lineage of a step: dbt's events become OpenLineage events and are handed to their delivery while dbt runs."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.errors import LineageError, Problem
from floe_orchestrator_dagster.execution.dbt_process import NODE_FINISHED
from floe_orchestrator_dagster.lineage.emitter import emitter_for
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import dagster as dg

    from floe_orchestrator_dagster.execution.target import Target
    from floe_orchestrator_dagster.lineage.deliveries import Deliveries
    from floe_orchestrator_dagster.lineage.emitter import LineageEmitter
    from floe_orchestrator_dagster.lineage.events import DbtEvents, LineageRun
    from floe_orchestrator_dagster.product import DbtConnection, DbtProject, Product
    from floe_orchestrator_dagster.product.manifest import Manifest

RUN_TAG = "floe/lineage"


class StepLineage:
    """What one dbt invocation of a step tells."""

    def __init__(
        self, emitter: LineageEmitter, run: LineageRun, dbt: DbtConnection, target: Target, log: dg.DagsterLogManager
    ) -> None:
        """Begin; the manifest is read with the first event, when dbt has written it."""
        self._emitter, self._run, self._dbt, self._target, self._log = emitter, run, dbt, target, log
        self._product = run.product
        self._events: DbtEvents | None = None
        self._is_told = True

    def node(self, event: Mapping[str, Any]) -> None:
        """Take the start or the end of a node, as dbt tells it.

        Raises:
            LineageError: With ``lineage.strict``, when no event can be made of it; a warning otherwise.
        """
        self._guarded(partial(self._node, event))

    def _node(self, event: Mapping[str, Any]) -> None:
        from floe_orchestrator_dagster.lineage.events import outcome_of

        outcome = None
        if event["info"]["name"] == NODE_FINISHED:
            data = event["data"]
            outcome = outcome_of(data["run_result"], dict(data.get("columns") or ()))
            compiled = self._compiled(data["node_info"]["unique_id"])
            outcome = replace(outcome, compiled_code=compiled)
        self._emit(self._dbt_events.observe(event, outcome))

    def freshness(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Take the results of source freshness.

        Raises:
            LineageError: As :meth:`node`.
        """
        self._guarded(lambda: self._emit(self._dbt_events.freshness(results)))

    def abort(self, why: str) -> None:
        """End what is still open.

        Raises:
            LineageError: As :meth:`node`.
        """
        events = self._events
        if events is not None:
            self._guarded(lambda: self._emit(events.abort(why, _now())))

    def _guarded(self, tell: Callable[[], None]) -> None:
        """Whatever is wrong with what lineage says, the run goes on."""
        if not self._is_told:
            return
        try:
            tell()
        except Exception as error:
            self._is_told = False
            what = f"no event could be made ({type(error).__name__}: {error})"
            problem = Problem("lineage", what, "Please report it; `lineage.enabled: false` switches lineage off.")
            refused = LineageError(self._product.origin, [problem])
            if self._product.config.lineage.strict:
                raise refused from error
            self._log.warning("%s", refused)

    def _emit(self, events: Iterable[Any]) -> None:
        for event in events:
            self._emitter.emit(event)

    @property
    def _dbt_events(self) -> DbtEvents:
        if self._events is None:
            from floe_orchestrator_dagster.lineage.datasets import read_warehouse
            from floe_orchestrator_dagster.lineage.events import DbtEvents

            profile, project = self._dbt.profile, self._product.dbt
            output = profile.outputs[profile.target or profile.default_target]
            directory = PurePosixPath(self._dbt.directory.path)
            warehouse = read_warehouse(output, os.environ, directory, self._product.config.lineage.namespaces)
            self._events = DbtEvents(self._run, self._manifest(project), warehouse)
        return self._events

    def _manifest(self, project: DbtProject | None) -> Manifest:
        """Another target than the product's own may have other databases and schemas: dbt has just written them."""
        own = self._target.path / MANIFEST_FILE
        if project is not None and (self._dbt.profile.target == project.profile.target or not own.is_file()):
            return project.manifest
        return read_manifest(own)

    def _compiled(self, unique_id: str) -> str | None:
        content = self._product.dbt.manifest.content if self._product.dbt else {"nodes": {}}
        node = content["nodes"].get(unique_id)
        path = self._target.compiled_path(node) if node else None
        return path.read_text(encoding="utf-8") if path is not None and path.is_file() else None


@contextmanager
def step_lineage(  # noqa: PLR0913, PLR0917  # a step has these parts
    context: dg.OpExecutionContext,
    product: Product,
    dbt: DbtConnection,
    target: Target,
    period: tuple[datetime, datetime] | None = None,
    steps: Sequence[str] | None = None,
) -> Iterator[StepLineage | None]:
    """Tell of a dbt invocation and of the product's run; waits at the end until events are delivered, within limits.

    Args:
        context: The step's.
        product: What is run.
        dbt: Where dbt runs.
        target: The invocation's target directory.
        period: Start and end of the run's partition in time.
        steps: Names of the product's dbt steps, in their order: the last one of a run ends the product's run. None for
            a step that is no part of it.

    Raises:
        LineageError: With ``lineage.strict``, when not all events were accepted.
    """
    emitter = emitter_for(product.artifacts, product.config.lineage, run=context.run_id, log=context.log)
    if emitter is None:
        yield None
        return
    from floe_orchestrator_dagster.lineage.events import product_event

    run = _lineage_run(context, product, dbt, period)
    lineage = StepLineage(emitter, run, dbt, target, context.log)
    with emitter:
        if steps is not None:
            emitter.emit(product_event(run, "START", _now()))
        try:
            yield lineage
        except BaseException as error:
            has_failed = isinstance(error, Exception)  # Dagster's interrupt and a dropped generator are none
            why = str(error) if has_failed else "the step was interrupted"
            with suppress(LineageError):
                lineage.abort(why)
            if steps is not None:
                emitter.emit(product_event(run, "FAIL" if has_failed else "ABORT", _now(), why))
            with suppress(LineageError):  # said in the run's log; the step has failed already, for a better reason
                _flush(emitter, context)
            raise
        lineage.abort("dbt ended before it")
        if steps is not None and _is_last(context, steps):
            emitter.emit(product_event(run, "COMPLETE", _now()))
        _flush(emitter, context)


def _flush(emitter: LineageEmitter, context: dg.OpExecutionContext) -> None:
    with telemetry.operation("lineage.flush"):
        try:
            emitter.flush()
        finally:
            told = _told(emitter.deliveries())
            context.log.info("lineage: %s", told)
            context.instance.add_run_tags(context.run_id, {RUN_TAG: told})


def _told(deliveries: Deliveries) -> str:
    counts = {
        "sent": deliveries.sent,
        "spooled": deliveries.spooled,
        "refused": deliveries.refused,
        "dropped": deliveries.dropped,
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "sent")


def _is_last(context: dg.OpExecutionContext, steps: Sequence[str]) -> bool:
    present = {node.name for node in context.job_def.nodes}
    return context.op_handle.name == next((name for name in reversed(steps) if name in present), None)


def _lineage_run(
    context: dg.OpExecutionContext, product: Product, dbt: DbtConnection, period: tuple[datetime, datetime] | None
) -> LineageRun:
    from floe_orchestrator_dagster.lineage.events import LineageRun, read_parent_id
    from floe_orchestrator_dagster.lineage.floe_events import PRODUCER

    record = context.instance.get_run_record_by_id(context.run_id)
    adapter = dbt.profile.adapter or ""
    return LineageRun(
        product=product,
        dagster_run_id=context.run_id,
        job_name=context.job_name,
        created_at=record.create_timestamp if record else _now(),
        producer=PRODUCER,
        step_key=context.get_step_execution_context().step.key,
        retry_number=context.retry_number,
        window=period,
        parent=read_parent_id(os.environ.get("OPENLINEAGE_PARENT_ID", "")),
        root=read_parent_id(os.environ.get("OPENLINEAGE_ROOT_PARENT_ID", "")),
        dagster_version=version("dagster"),
        dbt_version=version("dbt-core"),
        adapter=f"{adapter} {_installed(f'dbt-{adapter}')}".strip(),
        adapter_version=version("floe-orchestrator-dagster"),
    )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _now() -> datetime:
    return datetime.now(tz=timezone.utc)
