"""Request of a run: whether it builds everything or what has changed, and whether its builds count for later runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.step.build_facts import unusable_manifest
from floe_orchestrator_dagster.execution.step.other_computes import missing_manifest, on_own_manifest
from floe_orchestrator_dagster.execution.step.retry import RESUME_TAG
from floe_orchestrator_dagster.execution.step.run_options import BUILD_TAG, CHANGED
from floe_orchestrator_dagster.execution.step.time_windows import NO_WINDOW

if TYPE_CHECKING:
    import dagster as dg

    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.run_options import DbtOptions
    from floe_orchestrator_dagster.execution.step.time_windows import Window


@dataclass(frozen=True)
class BuildRequest:
    """Request of a run.

    Attributes:
        is_recorded: Whether builds are recorded, for this run or later ones.
        build_all: Why all selected nodes are built; None if only changed ones are.
        no_records: Why the builds of this run do not count for later ones; None if they do.
        full_refresh: Whether dbt runs with ``--full-refresh``.
        other_rows: Option of the run with which dbt reads or writes other rows than usual; None without one.
        is_elsewhere: Whether the run builds on another target.
        window: The partitions that the run builds.
    """

    is_recorded: bool
    build_all: str | None
    no_records: str | None
    full_refresh: bool = False
    other_rows: str | None = None
    is_elsewhere: bool = False
    window: Window = NO_WINDOW


def build_request(context: dg.OpExecutionContext, step: DbtStep, options: DbtOptions, window: Window) -> BuildRequest:
    """Return what a run asks for: by its options, the tag of its job or schedule, or the configuration."""
    config, chosen = step.product.config, options.builds_changed
    if chosen is None:
        chosen = context.run.tags.get(BUILD_TAG, config.build) == CHANGED
    if not (chosen or config.builds_changed):
        return BuildRequest(is_recorded=False, build_all="the run has `build: all`", no_records=None)
    request = changed_request(on_own_manifest(step), options, window)
    if not chosen:
        return replace(request, build_all="the run has `build: all`")
    is_retry = context.retry_number or context.run.tags.get(RESUME_TAG) == "true"
    if request.build_all is None and is_retry and step.has_hooks:
        return replace(request, build_all="an on-run hook of dbt may have failed in an earlier try")
    return request


def changed_request(step: DbtStep, options: DbtOptions, window: Window) -> BuildRequest:
    """Return the request of a run that builds what has changed, and is not a retry."""
    no_records = options.difference(step.connection.profile.environment)
    if no_records is None and step.partitions is not None:
        no_records = _without_partitions(step, window)
    no_records = no_records or missing_manifest(step) or unusable_manifest(step)
    build_all = no_records
    if build_all is None and options.full_refresh:
        build_all = "the run's configuration sets full_refresh"
    if build_all is None and not step.nodes.assets:
        build_all = "tests that wait for several steps always run"
    return BuildRequest(
        is_recorded=True,
        build_all=build_all,
        no_records=no_records,
        full_refresh=options.full_refresh,
        other_rows=options.other_rows,
        is_elsewhere=options.target not in {None, step.connection.profile.target},
        window=window,
    )


def _without_partitions(step: DbtStep, window: Window) -> str | None:
    """Return why builds of a step's partitions do not count; None if they do."""
    if step.connection.engine.kind != "core":
        return "partitions are reused with dbt-core only"
    if any(step.compute_of(node["unique_id"]) != step.compute for node in step.manifest.asset_nodes):
        return "partitions are reused in products with one compute only"
    return None if window.keys else "a run decides about each of its partitions"
