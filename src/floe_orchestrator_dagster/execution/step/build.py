"""``dbt build`` of a step, with Dagster's events for its nodes, the quality score and the step's failure."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from packaging.version import Version

from floe_orchestrator_dagster.errors import DbtBuildError, DbtSetupError, FloeDagsterError
from floe_orchestrator_dagster.execution.dbt.engine import engine_for
from floe_orchestrator_dagster.execution.dbt.target import new_target
from floe_orchestrator_dagster.execution.record.materializations import materialization
from floe_orchestrator_dagster.execution.record.quality_score import recorded_score
from floe_orchestrator_dagster.execution.step.build_plan import is_materialized, plan_build
from floe_orchestrator_dagster.execution.step.build_records import tests_stored
from floe_orchestrator_dagster.execution.step.build_request import build_request
from floe_orchestrator_dagster.execution.step.changed_build import changed_build
from floe_orchestrator_dagster.execution.step.deferral import step_deferral
from floe_orchestrator_dagster.execution.step.failure import dagster_failure, left_out
from floe_orchestrator_dagster.execution.step.node_events import NodeEvents, record_tables
from floe_orchestrator_dagster.execution.step.node_selection import select_nodes, selection_arguments
from floe_orchestrator_dagster.execution.step.other_computes import on_own_manifest
from floe_orchestrator_dagster.execution.step.retry import built_in_runs, done_before, handed_over
from floe_orchestrator_dagster.execution.step.run_options import DbtOptions, variables
from floe_orchestrator_dagster.execution.step.state_records import state_records
from floe_orchestrator_dagster.execution.step.step_invocation import StepInvocation
from floe_orchestrator_dagster.execution.step.step_lineage import may_have_other_names, step_lineage
from floe_orchestrator_dagster.execution.step.time_windows import Window, partition_window, sample_arguments
from floe_orchestrator_dagster.upstream.dagster_check_evaluations import Evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.record.quality_score import ScoredChecks
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.build_records import BuildRecords
    from floe_orchestrator_dagster.execution.step.deferral import Deferral
    from floe_orchestrator_dagster.execution.step.node_selection import Selection
    from floe_orchestrator_dagster.product import DbtConnection
    from floe_orchestrator_dagster.product.engines import DbtEngine


_FIRST_WITH_FUNCTIONS = (1, 11)
_Event = TypeVar("_Event")


def build_selection(context: dg.AssetExecutionContext, step: DbtStep, options: DbtOptions) -> Iterator[Any]:
    """Run one ``dbt build`` for the selected assets and checks of a step, and yield Dagster's events.

    Assets and checks that an earlier try of the step completed are not repeated.

    Args:
        context: The step's context.
        step: The step's definition.
        options: The run's options for dbt.

    Raises:
        FloeDagsterError: dbt failed, nodes failed, or the run's options are not valid.
    """
    op_context, window = context.op_execution_context, partition_window(context, step.partitions)
    options = options.of_run(context.run.tags)
    deferral = step_deferral(options, step.product, options.connection(step.connection))
    is_readable = partial(_is_readable, context.instance, _keys(deferral.nodes, step))
    plan = plan_build(context, step, step.excluded(options.exclude, context.log.warning), is_readable)
    built = {key: plan.built[key] for key in step.nodes.in_order(plan.built)}
    evaluations = Evaluations(op_context)
    for reused in handed_over(op_context, built, plan.passed):
        if isinstance(reused, dg.AssetCheckResult):
            yield from evaluations.events(reused)
        else:
            yield reused
    if plan.built:
        context.log.info("assets that are not built again, because an earlier try built them: %d", len(plan.built))
    _log_postponed(context.log, plan.selection)
    request = build_request(op_context, step, options, window)
    build = changed_build(op_context, on_own_manifest(step), request, plan.selection) if request.is_recorded else None
    selection = build.selection if build else plan.selection
    if build is not None:
        build.start()
        yield from build.reused(evaluations)
        options = options.model_copy(update={"full_refresh": options.full_refresh or build.records.is_refreshed})
    if selection.is_empty:
        _report_empty_step(op_context, step, window)
        return
    records = build.records if build else None
    events = _node_events(op_context, step, selection, options, deferral, window, plan.unassigned, records)
    with events.unknown_nodes_reported(), tests_stored(records):
        for result in events.results():
            event = events.event(result)
            if isinstance(event, dg.AssetCheckResult):
                yield from evaluations.events(event)
            elif event is not None:
                evaluations.built(event)
                yield event
    if build is not None:
        yield from build.reused_later()


def test_selection(
    context: dg.AssetCheckExecutionContext, step: DbtStep, options: DbtOptions
) -> Iterator[dg.AssetCheckResult]:
    """Run the dbt tests of the step's selected checks in one ``dbt build``.

    Tests that passed in an earlier try are not run again.

    Raises:
        FloeDagsterError: As :func:`build_selection`.
    """
    op_context, nodes = context.op_execution_context, step.nodes
    options = options.of_run(context.run.tags)
    deferral = step_deferral(options, step.product, options.connection(step.connection))
    excluded = step.excluded(options.exclude, context.log.warning)
    checks = {key for key in context.selected_asset_check_keys if nodes.checks[key] not in excluded}
    passed = done_before(op_context, nodes.reads).checks
    is_readable = partial(_is_readable, context.instance, _keys(deferral.nodes, step))
    selection = select_nodes(nodes, frozenset(), checks - passed.keys(), is_readable)
    if selection.is_empty and checks & passed.keys() and step.has_hooks:
        context.log.warning("all checks passed before; they run again, because an on-run hook of dbt may have failed")
        passed = {}
        selection = select_nodes(nodes, frozenset(), checks, is_readable)
    for reused in handed_over(op_context, {}, {key: found for key, found in passed.items() if key in checks}):
        if isinstance(reused, dg.AssetCheckResult):
            yield reused
    _log_postponed(context.log, selection)
    request = build_request(op_context, step, options, Window())
    build = changed_build(op_context, on_own_manifest(step), request, selection) if request.is_recorded else None
    if build is not None:
        build.start()
    if selection.is_empty:
        _report_empty_step(op_context, step, Window())
        return
    records = build.records if build else None
    events = _node_events(op_context, step, selection, options, deferral, Window(), records=records)
    with events.unknown_nodes_reported(), tests_stored(records):
        for result in events.results():
            event = events.event(result)
            if isinstance(event, dg.AssetCheckResult):
                yield event


def model_invocation(context: dg.OpExecutionContext, dbt: DbtConnection, config: DbtConfig) -> StepInvocation:
    """Create the invocation of a step that builds one model."""
    target = new_target(dbt, context.op.name, context.run.run_id)
    return StepInvocation(context, engine_for(dbt, config, context.log), dbt, config, target)


def build_model(
    context: dg.AssetExecutionContext,
    dbt: DbtConnection,
    name: str,
    config: DbtConfig,
    invocation: StepInvocation | None = None,
) -> dg.MaterializeResult[Any]:
    """Run ``dbt build`` for one model, seed or snapshot, its tests, and the functions upstream of it.

    Tests that also read other models run only if these are upstream of the model.

    Args:
        context: The step's context.
        dbt: The dbt project and profile.
        name: The model's name.
        config: Settings of dbt's runs.
        invocation: The invocation to run, for callers that read its results; None to create one.

    Raises:
        ProfileError: An environment variable of the profile is not set.
        DbtBuildError: dbt has no model of this name, dbt failed, or nodes failed.
    """
    # A bare name also selects a directory or project of this name.
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


def step_events(
    events: Iterator[_Event], instance: dg.DagsterInstance, scored: ScoredChecks | None = None
) -> Iterator[_Event | dg.AssetCheckEvaluation]:
    """Yield a step's events, and the quality score if a check or the step failed.

    Otherwise a separate step yields the score after the others. Dagster skips it when one of the others fails.

    Args:
        events: The events.
        instance: The Dagster instance, with the results of checks.
        scored: The checks in the product's score; None for a product without a score.

    Raises:
        Failure: Nodes failed, or dbt cannot run.
        FloeDagsterError: Another error after which Dagster can retry the step.
    """
    failed = False
    try:
        for event in events:
            failed = failed or _is_error(event)
            yield event
    except FloeDagsterError as error:
        if scored is not None and isinstance(error, DbtBuildError):
            yield recorded_score(instance, scored)
        failure = dagster_failure(error)
        if failure is None:
            raise
        raise failure from error
    if failed and scored is not None:
        yield recorded_score(instance, scored)


def _node_events(  # noqa: PLR0913, PLR0917  # a build needs all of these
    context: dg.OpExecutionContext,
    step: DbtStep,
    selection: Selection,
    options: DbtOptions,
    deferral: Deferral,
    window: Window,
    unassigned: AbstractSet[str] = frozenset(),
    records: BuildRecords | None = None,
) -> NodeEvents:
    """Prepare one ``dbt build`` of a selection."""
    nodes, content, product = step.nodes, step.manifest.content, step.product
    dbt = options.connection(step.connection)
    # Options are validated before the target directory is created.
    sample = sample_arguments(options.sample or None, dbt.engine, has_event_times=bool(window.arguments))
    further = [
        *variables(options.vars, window.variables),
        *window.arguments,
        *options.arguments(),
        *sample,
    ]
    target = new_target(dbt, context.op.name, context.run.run_id)
    further += deferral.arguments(target.path, _built_before(context, step) if deferral.manifest else frozenset())
    expected = nodes.expected(selection) - unassigned
    chosen = selection.with_nodes(step.ephemeral_models_of(expected))
    described = {**content["nodes"], **content["unit_tests"]}
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
        needs_manifest=may_have_other_names(product, dbt),
        manifest=step.manifest,
        expected=expected,
        note_tables=partial(record_tables, context, described, nodes),
    )
    arguments = ["build", *selection_arguments(chosen, target.path / "selection"), *further]
    return NodeEvents(step, invocation, arguments, unassigned, records, state_records(context, step, options))


def _is_readable(instance: dg.DagsterInstance, deferred: AbstractSet[dg.AssetKey], key: dg.AssetKey) -> bool:
    """Return whether dbt can read an asset that a step does not build, here or from the state that it defers to."""
    return key in deferred or is_materialized(instance, key)


def _keys(unique_ids: AbstractSet[str], step: DbtStep) -> frozenset[dg.AssetKey]:
    return frozenset(step.key_of[unique_id] for unique_id in unique_ids & step.key_of.keys())


def _built_before(context: dg.OpExecutionContext, step: DbtStep) -> frozenset[str]:
    """Return the unique ids of the tables that earlier steps and tries have built."""
    built = built_in_runs(context)
    return frozenset(unique_id for unique_id, key in step.key_of.items() if key in built)


def _report_empty_step(context: dg.OpExecutionContext, step: DbtStep, window: Window) -> None:
    """Emit lineage for a step without nodes to run, which can be the first or last step of the product's run."""
    with step_lineage(context, step.product, step.connection, None, step.steps, window.period):
        pass


def _has_functions(engine: DbtEngine) -> bool:
    """Return whether this dbt supports functions. Older versions reject a selection by this resource type."""
    return engine.kind == "v2" or Version(engine.version).release >= _FIRST_WITH_FUNCTIONS


def _unknown_model(dbt: DbtConnection, name: str) -> DbtSetupError:
    return DbtSetupError(
        f"{dbt.directory.path}: dbt has no enabled model, seed or snapshot named {name!r}, so nothing was built. "
        "Correct the name, or set FLOE_DBT_PROJECT_DIR to the project that has it."
    )


def _log_postponed(log: dg.DagsterLogManager, selection: Selection) -> None:
    for check, unbuilt in selection.postponed.items():
        name, unbuilt_names = check.to_user_string(), ", ".join(unbuilt)
        log.warning("check %s is postponed: it reads %s, which is not materialized yet", name, unbuilt_names)


def _is_error(event: object) -> bool:
    return (
        isinstance(event, (dg.AssetCheckResult, dg.AssetCheckEvaluation))
        and not event.passed
        and event.severity is dg.AssetCheckSeverity.ERROR
    )
