"""dbt build, streamed into Dagster's events.

dbt runs through dagster-dbt's ``DbtCliResource``; the compiled profile exists on disk only while dbt does.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DbtCliResource

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.selection import selection_arguments
from floe_orchestrator_dagster.product.prepare import PARTIAL_PARSE_FILE
from floe_orchestrator_dagster.product.profiles import make_database_directory, require_variables, written_profile
from floe_orchestrator_dagster.product.project import dbt_executable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from dagster_dbt import DagsterDbtTranslator, DbtCliEventMessage, DbtCliInvocation

    from floe_orchestrator_dagster.execution.selection import DbtNodes
    from floe_orchestrator_dagster.product import DbtConnection, DbtProject

_NODE_RESULTS = ("LogModelResult", "LogSeedResult", "LogSnapshotResult")
_NOTHING_SELECTED = "NoNodesForSelectionCriteria"
_INTERRUPT_SECONDS = 5
_GLOBAL_FLAGS = ["--no-use-colors", "--no-version-check"]


def build_selection(
    context: dg.AssetExecutionContext, dbt: DbtProject, nodes: DbtNodes, translator: DagsterDbtTranslator
) -> Iterator[Any]:
    """Run one ``dbt build`` for the assets and checks that the step selected; yields dagster-dbt's events.

    Raises:
        ProfileError: A variable that the profile reads is not set.
    """
    checks = context.selected_asset_check_keys
    selection = selection_arguments(nodes, dbt.manifest, context.selected_asset_keys, checks)
    manifest = dbt.manifest.content
    with _dbt_resource(dbt) as resource:
        invocation = resource.cli(
            ["build", *selection],
            manifest=manifest,
            dagster_dbt_translator=translator,
            target_path=_invocation_target(dbt, context),
        )
        with _ended_with_the_step(invocation):
            for dbt_event in invocation.stream_raw_events():
                for event in dbt_event.to_default_asset_events(
                    manifest, translator, context=context, target_path=invocation.target_path
                ):
                    yield _recorded(event, checks) if isinstance(event, dg.AssetCheckResult) else event


def build_model(context: dg.AssetExecutionContext, dbt: DbtConnection, name: str) -> dg.MaterializeResult[Any]:
    """Run ``dbt build`` for one model, seed or snapshot and its tests.

    Raises:
        ProfileError: A variable that the profile reads is not set.
        DbtBuildError: dbt has nothing of that name.
    """
    with _dbt_resource(dbt) as resource:
        target_path = _invocation_target(dbt, context)
        invocation = resource.cli(["build", "--select", name], target_path=target_path)
        with _ended_with_the_step(invocation):
            events = {_event_name(event): event for event in invocation.stream_raw_events()}
    if _NOTHING_SELECTED in events:
        raise DbtBuildError(
            f"{dbt.directory.path}: dbt has no enabled model, seed or snapshot called {name!r}, so nothing was built. "
            "Correct the name, or set FLOE_DBT_PROJECT_DIR to the project that has it."
        )
    built = next((events[result] for result in _NODE_RESULTS if result in events), None)
    if built is None:
        context.log.info("dbt has nothing to build for %s (an ephemeral model)", name)
        return dg.MaterializeResult()
    data = built.raw_event["data"]
    node = data["node_info"]
    return dg.MaterializeResult(
        metadata={
            "unique_id": node["unique_id"],
            "dagster/table_name": node["node_relation"]["relation_name"].replace('"', ""),
            "Execution Duration": dg.FloatMetadataValue(float(data["execution_time"])),
        }
    )


def _recorded(
    result: dg.AssetCheckResult, selected: AbstractSet[dg.AssetCheckKey]
) -> dg.AssetCheckResult | dg.AssetCheckEvaluation:
    """Record what dbt ran on a source although the step had not selected it; Dagster warns about such a result."""
    if result.asset_key is None or result.check_name is None:
        return result
    if dg.AssetCheckKey(result.asset_key, result.check_name) in selected:
        return result
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


@contextmanager
def _dbt_resource(dbt: DbtConnection) -> Iterator[DbtCliResource]:
    require_variables(dbt.profile)
    make_database_directory(dbt.profile)
    with written_profile(dbt.profile) as profiles_dir:
        yield DbtCliResource(
            project_dir=dbt.directory.path,
            profiles_dir=profiles_dir,
            profile=dbt.profile.name,
            target=dbt.profile.target,
            global_config_flags=_GLOBAL_FLAGS,
            dbt_executable=dbt_executable(),
        )


@contextmanager
def _ended_with_the_step(invocation: DbtCliInvocation) -> Iterator[None]:
    """Interrupt dbt when the step ends before it, so that nothing writes to the warehouse after a failed step."""
    try:
        yield
    finally:
        if invocation.process.poll() is None:
            invocation.process.send_signal(signal.SIGINT)
            try:
                invocation.process.wait(timeout=_INTERRUPT_SECONDS)
            except subprocess.TimeoutExpired:
                invocation.process.kill()
                invocation.process.wait()


def _invocation_target(dbt: DbtConnection, context: dg.AssetExecutionContext) -> Path:
    """Give every dbt invocation a target directory of its own, with the parse that is already known."""
    name = f"{context.op_execution_context.op.name}-{context.run.run_id[:8]}-{uuid.uuid4().hex[:8]}"
    target = dbt.directory.written_target / name
    target.mkdir(parents=True, exist_ok=True)
    known = (path for read in dbt.directory.read_targets if (path := read / PARTIAL_PARSE_FILE).is_file())
    parsed = next(known, None)
    if parsed:
        shutil.copyfile(parsed, target / PARTIAL_PARSE_FILE)
    return target


def _event_name(event: DbtCliEventMessage) -> str:
    return str(event.raw_event["info"]["name"])
