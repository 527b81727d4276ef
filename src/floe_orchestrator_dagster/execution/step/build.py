"""dbt build, streamed into Dagster's events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
from packaging.version import Version

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.execution.dbt.engine import engine_for
from floe_orchestrator_dagster.execution.dbt.target import new_target
from floe_orchestrator_dagster.execution.record.column_lineage import table_column_lineage
from floe_orchestrator_dagster.execution.record.materializations import (
    materialization,
    table_metadata,
    test_result,
    unassigned_result,
)
from floe_orchestrator_dagster.execution.step.build_plan import is_materialized, plan_build
from floe_orchestrator_dagster.execution.step.node_selection import select_nodes, selection_arguments
from floe_orchestrator_dagster.execution.step.partition_window import Window
from floe_orchestrator_dagster.execution.step.retry import done_before, handed_over
from floe_orchestrator_dagster.execution.step.run_options import DbtOptions, deferral, variables
from floe_orchestrator_dagster.execution.step.step_invocation import StepInvocation
from floe_orchestrator_dagster.execution.step.step_lineage import is_of_other_target, step_lineage
from floe_orchestrator_dagster.execution.step.unreported import RELOAD, left_out, named
from floe_orchestrator_dagster.upstream.dagster_check_evaluations import Evaluations, output_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes, Selection
    from floe_orchestrator_dagster.product import DbtConnection, Product
    from floe_orchestrator_dagster.product.engines import DbtEngine
    from floe_orchestrator_dagster.product.manifest import Manifest

_FIRST_WITH_FUNCTIONS = (1, 11)


@dataclass(frozen=True)
class DbtStep:
    """A step that runs dbt: with which connection, and the nodes behind its assets and checks.

    Attributes:
        connection: The project, and the profile with the target of the step's compute.
        nodes: The nodes that can be selected.
        manifest: The manifest that the assets were made from.
        product: The product.
        steps: Names of all steps of the product that run dbt.
        key_of: Key of every model, seed, snapshot and source of the product, by unique id.
        product_key: Key of the product itself.
        excluded: Finds the unique ids that an `exclude` of a run leaves out, the tests on them included, and warns.
    """

    connection: DbtConnection
    nodes: DbtNodes
    manifest: Manifest
    product: Product
    steps: tuple[str, ...]
    key_of: Mapping[str, dg.AssetKey]
    product_key: dg.AssetKey
    excluded: Callable[[str | None, Callable[[str], None]], frozenset[str]]

    @property
    def has_hooks(self) -> bool:
        """Whether the project has on-run hooks, which dbt runs with its nodes and never alone."""
        return any(node["resource_type"] == "operation" for node in self.manifest.content["nodes"].values())

    def ephemeral_models_of(self, unique_ids: AbstractSet[str]) -> set[str]:
        """Find the ephemeral models of unit tests: dbt runs a unit test only if its model is selected."""
        content, parents = self.manifest.content, self.manifest.content["parent_map"]
        tested = {model for test in unique_ids & content["unit_tests"].keys() for model in parents.get(test, ())}
        nodes = (content["nodes"].get(model, {}) for model in tested)
        return {node["unique_id"] for node in nodes if node and node["config"].get("materialized") == "ephemeral"}


def build_selection(
    context: dg.AssetExecutionContext, step: DbtStep, options: DbtOptions, window: Window
) -> Iterator[Any]:
    """Run one ``dbt build`` for the assets and checks that the step selected; yields Dagster's events.

    Assets and checks that an earlier try of the step completed are not repeated.

    Args:
        context: The step's context.
        step: What the step runs.
        options: What the run asks of dbt.
        window: The run's partition.

    Raises:
        FloeDagsterError: dbt could not do its work, or nodes failed, or the run asks for what cannot be.
    """
    op_context = context.op_execution_context
    plan = plan_build(context, step, step.excluded(options.exclude, context.log.warning))
    yield from handed_over(op_context, plan.built, plan.passed)
    if plan.built:
        context.log.info("assets that an earlier try built, not built again: %d", len(plan.built))
    _log_waiting(context.log, plan.selection)
    if plan.selection.is_empty:
        _report_empty_step(op_context, step, window)
        return
    evaluations = Evaluations(op_context)
    for result in _build(op_context, step, plan.selection, options, window, plan.unassigned):
        if isinstance(result, dg.AssetCheckResult):
            yield from evaluations.events(result)
        else:
            evaluations.built(result)
            yield result


def test_selection(
    context: dg.AssetCheckExecutionContext, step: DbtStep, options: DbtOptions
) -> Iterator[dg.AssetCheckResult]:
    """Run the dbt tests behind the checks that the step selected, in one ``dbt build``.

    Tests that passed in an earlier try are not run again.

    Raises:
        FloeDagsterError: As :func:`build_selection`.
    """
    op_context, nodes = context.op_execution_context, step.nodes
    excluded = step.excluded(options.exclude, context.log.warning)
    checks = {key for key in context.selected_asset_check_keys if nodes.checks[key] not in excluded}
    passed = done_before(op_context, nodes.reads).checks
    is_built = partial(is_materialized, context.instance)
    selection = select_nodes(nodes, frozenset(), checks - passed.keys(), is_built)
    if selection.is_empty and checks & passed.keys() and step.has_hooks:
        context.log.warning("all has passed, and runs again with dbt's on-run hooks, which may be what failed")
        passed = {}
        selection = select_nodes(nodes, frozenset(), checks, is_built)
    for result in handed_over(op_context, {}, {key: found for key, found in passed.items() if key in checks}):
        if isinstance(result, dg.AssetCheckResult):
            yield result
    _log_waiting(context.log, selection)
    if selection.is_empty:
        _report_empty_step(op_context, step, Window())
        return
    for result in _build(op_context, step, selection, options, Window()):
        if isinstance(result, dg.AssetCheckResult):
            yield result


def model_invocation(context: dg.OpExecutionContext, dbt: DbtConnection, config: DbtConfig) -> StepInvocation:
    """Prepare the invocation of a step that builds one model."""
    target = new_target(dbt, context.op.name, context.run.run_id)
    return StepInvocation(context, engine_for(dbt, config, context.log), dbt, config, target)


def build_model(
    context: dg.AssetExecutionContext,
    dbt: DbtConnection,
    name: str,
    config: DbtConfig,
    invocation: StepInvocation | None = None,
) -> dg.MaterializeResult[Any]:
    """Run ``dbt build`` for one model, seed or snapshot and the tests that read it and its upstream only.

    The functions upstream of it come along.

    Args:
        context: The step's.
        dbt: Where dbt runs.
        name: The model's name.
        config: How dbt is run.
        invocation: The invocation to run (:func:`model_invocation`), for callers that need its results.

    Raises:
        ProfileError: A variable that the profile reads is not set.
        DbtBuildError: dbt has nothing of that name, could not do its work, or nodes failed.
    """
    # The name alone would be a selector: of a directory or the whole project when one is called the same.
    if not re.fullmatch(r"[\w.-]+", name):
        raise _unknown_model(dbt, name)
    exactly = [f"fqn:{name},file:{name}", f"fqn:{name},resource_type:snapshot"]
    functions = [f"+fqn:{name},resource_type:function"] if _has_functions(dbt.engine) else []
    arguments = ["build", "--select", " ".join([*exactly, *functions]), "--indirect-selection", "buildable"]
    op_context = context.op_execution_context
    invocation = invocation or model_invocation(op_context, dbt, config)
    built = [result for result in invocation.run(arguments) if result.was_built]
    if invocation.unmatched.issuperset(exactly):
        raise _unknown_model(dbt, name)
    if not built:
        if not any(result.materialized == "ephemeral" for result in invocation.results.finished.values()):
            raise left_out(str(dbt.directory.path), name)
        context.log.info("dbt has nothing to build for %s, an ephemeral model", name)
        return dg.MaterializeResult()
    output = materialization(built[0], op_context.output_for_asset_key(context.asset_key), {}, None)
    table = built[0].relation.name.replace('"', "")
    return dg.MaterializeResult(metadata={**(output.metadata or {}), "dagster/table_name": table})


def _build(  # noqa: PLR0913, PLR0917  # a build has these parts
    context: dg.OpExecutionContext,
    step: DbtStep,
    selection: Selection,
    options: DbtOptions,
    window: Window,
    unassigned: AbstractSet[str] = frozenset(),
) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
    nodes, content = step.nodes, step.manifest.content
    dbt = options.connection(step.connection)
    # Options are refused before anything is made.
    asked = [*variables(options.vars, window.variables), *window.arguments, *options.arguments(), *deferral()]
    target = new_target(dbt, context.op.name, context.run.run_id)
    expected = nodes.expected(selection) - unassigned
    chosen = selection.with_nodes(step.ephemeral_models_of(expected))
    arguments = ["build", *selection_arguments(chosen, target.path / "selection"), *asked]
    described = {**content["nodes"], **content["unit_tests"]}
    product, check_of = step.product, nodes.check_of
    invocation = StepInvocation(
        context,
        engine_for(dbt, product.config.dbt, context.log),
        dbt,
        product.config.dbt,
        target,
        described,
        content["parent_map"],
        lineage=partial(step_lineage, context, product, dbt, target, step.steps, window.period),
        telemetry=product.artifacts.observability.telemetry,
        needs_manifest=is_of_other_target(product, dbt),
        manifest=step.manifest,
        expected=expected,
    )
    outputs = output_names(context)
    output_of = {unique_id: outputs[key] for key, unique_id in nodes.assets.items() if key in outputs}
    own = frozenset(nodes.assets.values())
    for result in _known(context, invocation.run(arguments), described.keys()):
        node = described.get(result.unique_id, {})
        if result.was_built and result.unique_id in output_of:
            lasting = target.lasting_compiled_path(node) if result.resource_type != "seed" else None
            more = _more_metadata(result, node, step, invocation)
            yield materialization(result, output_of[result.unique_id], node, lasting, more)
        elif result.is_test and result.unique_id in check_of:
            compiled = target.compiled_path(node) if result.resource_type == "test" else None
            check = test_result(result, check_of[result.unique_id], nodes.severities, compiled)
            if check is not None:
                yield check
        elif result.unique_id in unassigned or (result.has_failed and result.unique_id not in own):
            yield unassigned_result(result, step.product_key)


def _known(
    context: dg.OpExecutionContext, results: Iterator[NodeResult], known: AbstractSet[str]
) -> Iterator[NodeResult]:
    """Pass results on; at the end warn of what dbt ran that is not in the code location's manifest."""
    unknown: set[str] = set()
    try:
        for result in results:
            if (result.was_built or result.is_test) and result.unique_id not in known and not result.was_skipped:
                unknown.add(result.unique_id)
            yield result
    finally:
        if unknown:
            why = "The dbt project got them after the code location was loaded."
            context.log.warning("dbt ran nodes that are not assets or checks: %s. %s %s", named(unknown), why, RELOAD)


def _report_empty_step(context: dg.OpExecutionContext, step: DbtStep, window: Window) -> None:
    """Emit lineage for a step in which dbt has nothing to do: it may be the run's first, or its last."""
    with step_lineage(context, step.product, step.connection, None, step.steps, window.period):
        pass


def _more_metadata(
    result: NodeResult, node: Mapping[str, Any], step: DbtStep, invocation: StepInvocation
) -> dict[str, Any]:
    """Find where the columns of a table come from, and its name where the asset's definition has another one."""
    # With the tables' names of this run, as soon as dbt has read the project.
    manifest = invocation.manifest or step.manifest
    actual = manifest.content["nodes"].get(result.unique_id, node)
    found = invocation.column_lineage(result) if step.product.config.dbt.columns else None
    lineage = table_column_lineage(found, step.key_of) if found else None
    return {
        **({} if actual is node else table_metadata(actual)),
        **({"dagster/column_lineage": lineage} if lineage else {}),
    }


def _has_functions(engine: DbtEngine) -> bool:
    """Whether this dbt knows functions as nodes: an older one refuses a selection that names their type."""
    return Version(engine.version).release >= _FIRST_WITH_FUNCTIONS


def _unknown_model(dbt: DbtConnection, name: str) -> DbtSetupError:
    return DbtSetupError(
        f"{dbt.directory.path}: dbt has no enabled model, seed or snapshot called {name!r}, so nothing was built. "
        "Correct the name, or set FLOE_DBT_PROJECT_DIR to the project that has it."
    )


def _log_waiting(log: dg.DagsterLogManager, selection: Selection) -> None:
    for check, unbuilt in selection.left_out.items():
        name, unbuilt_names = check.to_user_string(), ", ".join(unbuilt)
        log.warning("check %s waits: it reads %s, which is not materialized yet", name, unbuilt_names)
