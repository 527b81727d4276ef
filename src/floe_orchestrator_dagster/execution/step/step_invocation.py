"""A dbt invocation of a step, with its results in the run's log, traces and lineage."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.execution.dbt.node_result import (
    BuiltTables,
    DbtWarning,
    EngineValue,
    NodeCount,
    NodeResult,
    NodeStart,
    NothingMatched,
    TableNames,
)
from floe_orchestrator_dagster.execution.dbt.results import Results
from floe_orchestrator_dagster.execution.dbt.target import archive, leave_target
from floe_orchestrator_dagster.execution.record.build_trace import dbt_build
from floe_orchestrator_dagster.execution.record.run_log import NodeLog
from floe_orchestrator_dagster.execution.step.failure import nodes_error, unreported_problems
from floe_orchestrator_dagster.execution.step.seed_columns import with_seed_columns
from floe_orchestrator_dagster.upstream.dagster_event_storage import open_storage
from floe_orchestrator_dagster.upstream.dagster_step_end import close_with_step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_core.schemas.telemetry import TelemetryConfig

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.errors import Problem
    from floe_orchestrator_dagster.execution.dbt.engine import Engine, EngineRun
    from floe_orchestrator_dagster.execution.dbt.target import Target
    from floe_orchestrator_dagster.execution.record.build_trace import BuildTrace
    from floe_orchestrator_dagster.execution.step.step_lineage import StepLineage
    from floe_orchestrator_dagster.lineage.columns.built_relations import BuiltRelations
    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.product import DbtConnection
    from floe_orchestrator_dagster.product.manifest import Manifest


logger = logging.getLogger(__name__)

_CHECK_SECONDS = 10


def _no_lineage(_traceparent: str | None) -> AbstractContextManager[None]:
    return nullcontext()


def _call_each(*functions: Callable[[], None]) -> None:
    for function in functions:
        function()


def _ignored(_tables: BuiltTables) -> None:
    """Drop columns and rows."""


@dataclass
class StepInvocation:
    """A dbt invocation of a step.

    Attributes:
        context: The step's context.
        engine: The dbt engine.
        dbt: The dbt project and profile.
        config: Settings of dbt's runs.
        target: The invocation's target directory.
        nodes: The manifest's nodes and unit tests, by unique id.
        parents: Unique ids of the direct parents of each node.
        lineage: Starts the lineage of the nodes. Its argument is the trace of the build.
        telemetry: The product's settings for traces.
        needs_manifest: Whether dbt's manifest is read while dbt runs.
        manifest: The product's manifest, with the names of tables in this run as soon as dbt has reported them.
        expected: Unique ids of the selected nodes. Each of them must have a result at the end.
        unmatched: Selections that matched no node.
        results: The results so far.
        step_lineage: The lineage of the nodes; None without lineage.
        relations: Names and columns of built relations; None when ``step_lineage`` has them.
        note_tables: Called with the columns and rows of tables that dbt reports after its end.
    """

    context: dg.OpExecutionContext
    engine: Engine
    dbt: DbtConnection
    config: DbtConfig
    target: Target
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lineage: Callable[[str | None], AbstractContextManager[StepLineage | None]] = _no_lineage
    telemetry: TelemetryConfig | None = None
    needs_manifest: bool = False
    manifest: Manifest | None = None
    expected: AbstractSet[str] = frozenset()
    note_tables: Callable[[BuiltTables], None] = _ignored
    unmatched: set[str] = field(default_factory=set)
    results: Results = field(init=False)
    step_lineage: StepLineage | None = field(init=False, default=None)
    relations: BuiltRelations | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Start without results."""
        # https://docs.getdbt.com/reference/resource-configs/on_error
        configs = ((unique_id, node.get("config") or {}) for unique_id, node in self.nodes.items())
        continued = {unique_id for unique_id, config in configs if config.get("on_error") == "continue"}
        self.results = Results(self.parents, continued=continued)

    def run(self, arguments: Sequence[str]) -> Iterator[NodeResult]:
        """Run dbt, and yield the result of each node.

        Raises:
            ProfileError: An environment variable of the profile is not set, or the adapter is not installed.
            DbtBuildError: dbt failed, or nodes failed.
        """
        results = self._run(arguments)
        close_with_step(self.context, results)
        return results

    def _run(self, arguments: Sequence[str]) -> Generator[NodeResult, None, None]:
        results, log = self.results, self.context.log
        node_log = NodeLog(log)
        succeeded = False
        attributes = telemetry.product_attributes(self.telemetry)
        target = {"dbt.target": self.dbt.profile.target or self.dbt.profile.default_target}
        try:
            with (
                ended_with_run(self.context),
                open_storage(self.context.instance) as write_events,
                dbt_build(attributes, self.context.run_id, target) as trace,
                self._running(arguments, trace) as invocation,
            ):
                for value in invocation.values(partial(_call_each, node_log.flush_when_due, write_events)):
                    self._note(value)
                    if isinstance(value, NodeResult):
                        trace.record(value)
                        node_log.write(results, value)
                        yield value
                invocation.require_end(results.running_names)
                succeeded = invocation.is_successful
                unreported = self._unreported(has_succeeded=succeeded)
                if not succeeded or unreported:
                    succeeded = False
                    raise nodes_error(results, self.nodes, str(self.dbt.directory.path), unreported)
        finally:
            node_log.flush()
            if results.running:  # Dagster has interrupted the step, or dbt was killed
                log.warning("dbt was ended before these nodes had ended: %s", ", ".join(results.running_names))
            self._attach()
            leave_target(self.target, self.config, has_succeeded=succeeded)

    @contextmanager
    def _running(self, arguments: Sequence[str], trace: BuildTrace) -> Iterator[EngineRun]:
        """Run dbt, and emit lineage: its start while dbt starts, its end after dbt has ended."""
        is_started = False
        with ExitStack() as after_dbt:
            try:
                with self.engine.start(
                    arguments, self.target.path, trace.environment, needs_manifest=self.needs_manifest
                ) as invocation:
                    is_started = True
                    if self.manifest is not None:
                        # It imports sqlglot, which takes a second: while dbt starts, not when its first node does.
                        import_module("floe_orchestrator_dagster.lineage.columns.built_relations")
                    self.step_lineage = after_dbt.enter_context(self.lineage(trace.traceparent))
                    yield invocation
            except BaseException:
                if not is_started:
                    after_dbt.enter_context(self.lineage(trace.traceparent))
                raise

    def _unreported(self, *, has_succeeded: bool) -> list[Problem]:
        target = self.target.path
        return unreported_problems(self.expected, self.results, self.nodes, target, has_succeeded=has_succeeded)

    def _note(self, value: EngineValue) -> None:
        self.results.add(value)
        if isinstance(value, (NodeStart, NodeResult)):
            self._note_node(value)
        elif isinstance(value, TableNames) and self.manifest is not None:
            self.manifest = self.manifest.with_relations(value.relations)
            if self.step_lineage is not None:
                self.step_lineage.manifest = self.manifest
        elif isinstance(value, NodeCount):
            self.results.expected = self._counted(value)
        elif isinstance(value, BuiltTables):
            self.note_tables(value)
        elif isinstance(value, NothingMatched):
            self.unmatched.update(value.selection.split())
        elif isinstance(value, DbtWarning):
            self.context.log.warning("dbt: %s", value.message)

    def _counted(self, nodes: NodeCount) -> int:
        """Count the nodes whose results are numbered in the run's log."""
        if nodes.has_all:
            configs = [node.get("config") or {} for node in self.nodes.values()]
            tables = nodes.count - sum(config.get("materialized") == "ephemeral" for config in configs)
            return max(len(self.expected), int(tables))
        # The count in dbt-core's event does not include the unit tests of a build.
        return nodes.count + sum(unique_id.startswith("unit_test.") for unique_id in self.expected)

    def _note_node(self, node: NodeStart | NodeResult) -> None:
        if isinstance(node, NodeResult):
            node = with_seed_columns(node, self.nodes.get(node.unique_id, {}), self.dbt.directory)
        lineage = self.step_lineage
        if lineage is not None and isinstance(node, NodeStart):
            lineage.node_started(node)
        elif lineage is not None and isinstance(node, NodeResult):
            lineage.node_ended(node, self.results.causes(node) if node.was_skipped else ())
        if (lineage is None or not lineage.is_usable) and self.manifest is not None:
            # A local import, because it imports sqlglot, which takes 30 MB. `_running` has imported it.
            from floe_orchestrator_dagster.lineage.columns.built_relations import BuiltRelations

            adapter = self.dbt.profile.adapter or ""
            self.relations = self.relations or BuiltRelations(self.manifest, adapter, log=self.context.log)
            self.relations.learn(node)

    def column_lineage(self, result: NodeResult) -> ColumnLineage | None:
        """Return the column lineage of a relation that was just built; None when it is unknown."""
        if self.step_lineage is not None and self.step_lineage.is_usable:
            return self.step_lineage.column_lineage(result.unique_id)
        if self.relations is None:
            return None
        node = self.nodes.get(result.unique_id)
        compiled = result.compiled_code or (self.target.compiled_code(node) if node else None)
        return self.relations.column_lineage(replace(result, compiled_code=compiled))

    def _attach(self) -> None:
        if self.config.attach_artifacts:
            directory = self.context.instance.storage_directory()
            path = archive(self.target, Path(directory, self.context.run.run_id))
            self.context.log.info("dbt's artifacts are in %s", path)


@contextmanager
def ended_with_run(context: dg.OpExecutionContext) -> Iterator[None]:
    """Interrupt this step when its run ends, or is killed, inside the block.

    Dagster's multiprocess executor does not end its steps when its process is killed. Executors with a pod or container
    per step do not end them when the pod of the run is lost, or when someone terminates a run that Dagster may resume.
    dbt would continue, in the same tables as a retry of the run.

    Args:
        context: The step's context.
    """
    # Without a separate process, the step's parent process is the code server. The run continues without it.
    if not _has_own_process(context):
        yield
        return
    process, step_ended = multiprocessing.parent_process(), threading.Event()
    run_ends = process.join if process else partial(_wait_for_end, context.instance, context.run_id, step_ended)
    threading.Thread(target=_interrupt_after, args=(run_ends, step_ended), daemon=True).start()
    try:
        yield
    finally:
        step_ended.set()


def _has_own_process(context: dg.OpExecutionContext) -> bool:
    step_key = context.get_step_execution_context().step.key
    started = context.instance.all_logs(context.run_id, of_type={dg.DagsterEventType.STEP_WORKER_STARTING})
    return any(record.step_key == step_key for record in started)


def _wait_for_end(instance: dg.DagsterInstance, run_id: str, step_ended: threading.Event) -> None:
    """Wait until the step has ended, or its run has a final status or was deleted."""
    while not step_ended.wait(_CHECK_SECONDS):
        try:
            run = instance.get_run_by_id(run_id)
        except Exception as error:  # noqa: BLE001  # errors of a database that cannot be reached for a while
            logger.debug("cannot read the status of run %s: %s", run_id, error)
            continue
        if run is None or run.is_finished:
            return


def _interrupt_after(run_ends: Callable[[], None], step_ended: threading.Event) -> None:
    run_ends()
    if not step_ended.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
