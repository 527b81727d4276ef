"""dbt build, streamed into Dagster's events."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.columns import table_column_lineage
from floe_orchestrator_dagster.execution.dbt_process import NODE_COUNT, NODE_STARTED, NOTHING_MATCHED
from floe_orchestrator_dagster.execution.events import materialization, recorded, test_result
from floe_orchestrator_dagster.execution.failure import nodes_error
from floe_orchestrator_dagster.execution.invocation import running_dbt
from floe_orchestrator_dagster.execution.lineage import step_lineage
from floe_orchestrator_dagster.execution.node_log import NodeLog
from floe_orchestrator_dagster.execution.options import DbtOptions, variables
from floe_orchestrator_dagster.execution.partitions import Window
from floe_orchestrator_dagster.execution.remainder import built_before, done_before, read_by_other_steps
from floe_orchestrator_dagster.execution.results import Results
from floe_orchestrator_dagster.execution.selection import select_nodes, selection_arguments
from floe_orchestrator_dagster.execution.target import archive, leave_target, new_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from floe_orchestrator_dagster.config.dbt import DbtConfig
    from floe_orchestrator_dagster.execution.invocation import Event
    from floe_orchestrator_dagster.execution.lineage import StepLineage
    from floe_orchestrator_dagster.execution.results import NodeResult
    from floe_orchestrator_dagster.execution.selection import DbtNodes, Selection
    from floe_orchestrator_dagster.execution.target import Target
    from floe_orchestrator_dagster.product import DbtConnection, Product
    from floe_orchestrator_dagster.product.manifest import Manifest
    from floe_orchestrator_dagster.telemetry import BuildTrace


@dataclass(frozen=True)
class DbtStep:
    """A step that runs dbt: with which connection, and the nodes behind its assets and checks.

    Attributes:
        connection: The project, and the profile with the target of the step's compute.
        nodes: The nodes that can be selected.
        manifest: The manifest that the assets were made from.
        product: The product.
        steps: Names of all steps of the product that run dbt, in their order.
        key_of: Key of every model, seed, snapshot and source of the product, by unique id.
    """

    connection: DbtConnection
    nodes: DbtNodes
    manifest: Manifest
    product: Product
    steps: tuple[str, ...]
    key_of: Mapping[str, dg.AssetKey]


def build_selection(
    context: dg.AssetExecutionContext,
    step: DbtStep,
    options: DbtOptions,
    window: Window,
    excluded: AbstractSet[str],
) -> Iterator[Any]:
    """Run one ``dbt build`` for the assets and checks that the step selected; yields Dagster's events.

    What an earlier try of the step has built is not built again.

    Args:
        context: The step's context.
        step: What the step runs.
        options: What the run asks of dbt.
        window: The run's partition.
        excluded: Unique ids of what the run leaves out.

    Raises:
        ProfileError: A variable that the profile reads is not set, or the adapter is not installed.
        DbtBuildError: dbt could not do its work, or nodes failed.
    """
    op_context = context.op_execution_context
    done = done_before(op_context)
    left_out = {key for key, unique_id in step.nodes.assets.items() if unique_id in excluded}
    assets = context.selected_asset_keys - left_out
    checks = {check for check in context.selected_asset_check_keys if check.asset_key not in left_out}
    if done.by_other_runs:
        yield from built_before(done, read_by_other_steps(op_context), assets, checks)
    if done.assets:
        context.log.info("%d assets are there from an earlier try and not built again", len(done.assets))
    left = assets - done.assets.keys()
    # A test over several tables counts again when one of them is built anew.
    passed = {check for check in done.checks if not step.nodes.reads.get(check, frozenset()) & left}
    selection = select_nodes(step.nodes, left, checks - passed, partial(_is_materialized, context.instance))
    _log_waiting(context.log, selection)
    if selection.unique_ids is not None and not selection.unique_ids:
        if done.assets:
            context.log.warning("everything is built; on-run hooks of dbt run again only with all that they belong to")
        return
    for result in _build(op_context, step, selection, options, window):
        if isinstance(result, dg.AssetCheckResult):
            yield recorded(result, checks)
        else:
            yield result


def test_selection(context: dg.AssetCheckExecutionContext, step: DbtStep) -> Iterator[dg.AssetCheckResult]:
    """Run the dbt tests behind the checks that the step selected, in one ``dbt build``.

    Raises:
        ProfileError: A variable that the profile reads is not set, or the adapter is not installed.
        DbtBuildError: dbt could not do its work, or tests failed.
    """
    checks = context.selected_asset_check_keys
    selection = select_nodes(step.nodes, frozenset(), checks, partial(_is_materialized, context.instance))
    _log_waiting(context.log, selection)
    if not selection.unique_ids:
        return
    for result in _build(context.op_execution_context, step, selection, DbtOptions(), Window()):
        if isinstance(result, dg.AssetCheckResult):
            yield result


def build_model(
    context: dg.AssetExecutionContext, dbt: DbtConnection, name: str, config: DbtConfig, target: Target | None = None
) -> dg.MaterializeResult[Any]:
    """Run ``dbt build`` for one model, seed or snapshot and the tests that read it and its upstream only.

    Args:
        context: The step's.
        dbt: Where dbt runs.
        name: The model's name.
        config: How dbt is run.
        target: Directory for dbt's artifacts; a new one when left out.

    Raises:
        ProfileError: A variable that the profile reads is not set.
        DbtBuildError: dbt has nothing of that name, could not do its work, or nodes failed.
    """
    # The name alone would be a selector: of a directory or the whole project when one is called the same.
    if not re.fullmatch(r"[\w.-]+", name):
        raise _unknown_model(dbt, name)
    exactly = [f"fqn:{name},file:{name}", f"fqn:{name},resource_type:snapshot"]
    arguments = ["build", "--select", " ".join(exactly), "--indirect-selection", "buildable"]
    run = _Run(context.op_execution_context, dbt, config, target or new_target(dbt, context.op_execution_context))
    built = [result for result in run.results_of(arguments) if result.was_built]
    if run.unmatched.issuperset(exactly):
        raise _unknown_model(dbt, name)
    if not built:
        context.log.info("dbt has nothing to build for %s, an ephemeral model", name)
        return dg.MaterializeResult()
    output = materialization(built[0], context.asset_key, {}, None)
    table = built[0].relation.replace('"', "")
    return dg.MaterializeResult(metadata={**(output.metadata or {}), "dagster/table_name": table})


@dataclass
class _Run:
    """One invocation for a step."""

    context: dg.OpExecutionContext
    dbt: DbtConnection
    config: DbtConfig
    target: Target
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unmatched: set[str] = field(default_factory=set)
    step: DbtStep | None = None
    window: Window = field(default_factory=Window)
    results: Results = field(init=False)

    def results_of(self, arguments: Sequence[str]) -> Iterator[NodeResult]:
        """Run dbt; yields the result of each node as it ends, and raises when dbt or one of them failed."""
        results = self.results = Results(self.parents)
        told = NodeLog(self.context.log)
        succeeded = False
        try:
            with self._traced() as trace, self._lineage() as lineage:
                environment, log = trace.environment, self.context.log
                with running_dbt(self.dbt, arguments, self.target.path, self.config, log, environment) as invocation:
                    for event in invocation.events(told.flush_when_due):
                        self._note(event, results)
                        result = results.add(event)
                        if lineage is not None and (result is not None or event["info"]["name"] == NODE_STARTED):
                            lineage.node(event)
                        if result is not None:
                            trace.dbt_event(event)
                            told.write(results, result)
                            yield result
                    invocation.require_end([unique_id.split(".")[2] for unique_id in results.running])
                    succeeded = invocation.is_successful
                if not succeeded:
                    raise nodes_error(results, self.nodes, str(self.dbt.directory.path))
        finally:
            told.flush()
            self._attach()
            leave_target(self.target, self.config, has_succeeded=succeeded)

    def column_lineage(
        self, result: NodeResult, node: Mapping[str, Any], step: DbtStep
    ) -> dg.TableColumnLineage | None:
        """Find where the columns of a table that has just been built come from."""
        if result.resource_type == "seed":
            return None
        compiled, adapter = self.target.compiled_path(node), self.dbt.profile.adapter or ""
        return table_column_lineage(result.unique_id, compiled, adapter, step.manifest, self.results, step.key_of)

    def _traced(self) -> AbstractContextManager[BuildTrace]:
        config = self.step.product.artifacts.observability.telemetry if self.step else None
        target = {"dbt.target": self.dbt.profile.target or self.dbt.profile.default_target}
        return telemetry.dbt_build(telemetry.product_attributes(config), self.context.run_id, target)

    def _lineage(self) -> AbstractContextManager[StepLineage | None]:
        if self.step is None:
            return nullcontext()
        step, period = self.step, self.window.period
        return step_lineage(self.context, step.product, self.dbt, self.target, period, step.steps)

    def _note(self, event: Event, results: Results) -> None:
        name = event["info"]["name"]
        if name == NODE_COUNT:
            results.expected = int(event["data"]["node_count"])
        elif name == NOTHING_MATCHED:
            self.unmatched.add(str(event["data"].get("spec_raw")))
        elif event["info"]["level"] == "warn":
            self.context.log.warning("dbt: %s", str(event["info"]["msg"]).strip())

    def _attach(self) -> None:
        if self.config.attach_artifacts:
            directory = self.context.instance.storage_directory()
            path = archive(self.target, Path(directory, self.context.run.run_id))
            self.context.log.info("dbt's artifacts are in %s", path)


def _build(
    context: dg.OpExecutionContext, step: DbtStep, selection: Selection, options: DbtOptions, window: Window
) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
    nodes, content = step.nodes, step.manifest.content
    dbt = options.connection(step.connection)
    target = new_target(dbt, context)
    arguments = [
        "build",
        *selection_arguments(selection, target.path / "selection"),
        *variables(options.vars, window.variables),
        *window.arguments,
        *options.arguments(),
    ]
    described = {**content["nodes"], **content["unit_tests"]}
    config, parents = step.product.config.dbt, content["parent_map"]
    run = _Run(context, dbt, config, target, described, parents, step=step, window=window)
    key_of = {unique_id: key for key, unique_id in nodes.assets.items()}
    check_of = nodes.check_of
    for result in run.results_of(arguments):
        node = described.get(result.unique_id, {})
        if result.was_built and result.unique_id in key_of:
            lasting = target.lasting_compiled_path(node) if result.resource_type != "seed" else None
            lineage = run.column_lineage(result, node, step) if config.columns else None
            yield materialization(result, key_of[result.unique_id], node, lasting, lineage)
        elif result.is_test and result.unique_id in check_of:
            compiled = target.compiled_path(node) if result.resource_type == "test" else None
            check = test_result(result, check_of[result.unique_id], nodes.severities, compiled)
            if check is not None:
                yield check


def _unknown_model(dbt: DbtConnection, name: str) -> DbtBuildError:
    return DbtBuildError(
        f"{dbt.directory.path}: dbt has no enabled model, seed or snapshot called {name!r}, so nothing was built. "
        "Correct the name, or set FLOE_DBT_PROJECT_DIR to the project that has it."
    )


def _is_materialized(instance: dg.DagsterInstance, key: dg.AssetKey) -> bool:
    return instance.get_latest_materialization_event(key) is not None


def _log_waiting(log: dg.DagsterLogManager, selection: Selection) -> None:
    for check, unbuilt in selection.left_out.items():
        name, unbuilt_names = check.to_user_string(), ", ".join(unbuilt)
        log.warning("check %s waits: it reads %s, which is not materialized yet", name, unbuilt_names)
