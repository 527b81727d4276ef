"""dbt build, streamed into Dagster's events.

dbt runs through dagster-dbt's ``DbtCliResource``; the compiled profile exists on disk only while dbt does.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DbtCliResource
from packaging.version import Version

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.events import is_test_event, recorded, test_result
from floe_orchestrator_dagster.execution.selection import select_nodes, selection_arguments
from floe_orchestrator_dagster.product.manifest import find_partial_parse
from floe_orchestrator_dagster.product.profiles import (
    make_database_directory,
    require_adapter,
    require_variables,
    written_profile,
)
from floe_orchestrator_dagster.product.project import dbt_executable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation
    from dagster_dbt.core.dbt_cli_event import DbtCliEventMessage
    from dagster_dbt.core.dbt_event_iterator import DbtDagsterEventType

    from floe_orchestrator_dagster.execution.selection import DbtNodes, Selection
    from floe_orchestrator_dagster.product import DbtConnection
    from floe_orchestrator_dagster.product.manifest import Manifest

_NODE_RESULTS = ("LogModelResult", "LogSeedResult", "LogSnapshotResult")
_NOTHING_MATCHED = "NoNodesForSelectionCriteria"
_INTERRUPT_SECONDS = 5
_GLOBAL_FLAGS = ["--no-use-colors", "--no-version-check"]


@dataclass(frozen=True)
class DbtStep:
    """A step that runs dbt: with which connection, and the nodes behind its assets and checks.

    Attributes:
        connection: The project, and the profile with the target of the step's compute.
        nodes: The nodes that can be selected.
        manifest: The manifest that the assets were made from.
    """

    connection: DbtConnection
    nodes: DbtNodes
    manifest: Manifest


def build_selection(
    context: dg.AssetExecutionContext, step: DbtStep, translator: DagsterDbtTranslator, partition: Sequence[str] = ()
) -> Iterator[DbtDagsterEventType]:
    """Run one ``dbt build`` for the assets and checks that the step selected; yields Dagster's events.

    Args:
        context: The step's context.
        step: What the step runs.
        translator: What the assets were made with.
        partition: dbt's arguments for the run's partition.

    Raises:
        ProfileError: A variable that the profile reads is not set, or the adapter is not installed.
    """
    checks, check_of = context.selected_asset_check_keys, step.nodes.check_of
    is_materialized = partial(_is_materialized, context.instance)
    selection = select_nodes(step.nodes, context.selected_asset_keys, checks, is_materialized)
    _log_waiting(context.log, selection)
    target_path = invocation_target(step.connection, context.op_execution_context)
    arguments = ["build", *selection_arguments(selection, target_path / "selection"), *partition]
    for event in _dbt_events(step.connection, arguments, target_path):
        result = test_result(event.raw_event, check_of, step.nodes.severities)
        if result is not None:
            yield recorded(result, checks)
        elif not is_test_event(event.raw_event):
            yield from event.to_default_asset_events(
                step.manifest.content, translator, context=context, target_path=target_path
            )


def test_selection(context: dg.AssetCheckExecutionContext, step: DbtStep) -> Iterator[dg.AssetCheckResult]:
    """Run the dbt tests behind the checks that the step selected, in one ``dbt build``.

    Raises:
        ProfileError: A variable that the profile reads is not set, or the adapter is not installed.
    """
    checks, check_of = context.selected_asset_check_keys, step.nodes.check_of
    selection = select_nodes(step.nodes, frozenset(), checks, partial(_is_materialized, context.instance))
    _log_waiting(context.log, selection)
    if not selection.unique_ids:
        return
    target_path = invocation_target(step.connection, context.op_execution_context)
    arguments = ["build", *selection_arguments(selection, target_path / "selection")]
    for event in _dbt_events(step.connection, arguments, target_path):
        result = test_result(event.raw_event, check_of, step.nodes.severities)
        if result is not None:
            yield result


def build_model(
    context: dg.AssetExecutionContext, dbt: DbtConnection, name: str, target_path: Path | None = None
) -> dg.MaterializeResult[Any]:
    """Run ``dbt build`` for one model, seed or snapshot and the tests that read it and its upstream only.

    Args:
        context: The step's.
        dbt: Where dbt runs.
        name: The model's name.
        target_path: Directory for dbt's artifacts; a new one when left out.

    Raises:
        ProfileError: A variable that the profile reads is not set.
        DbtBuildError: dbt has nothing of that name.
    """
    # The name alone would be a selector: of a directory or the whole project when one is called the same.
    if not re.fullmatch(r"[\w.-]+", name):
        raise _unknown_model(dbt, name)
    exactly = [f"fqn:{name},file:{name}", f"fqn:{name},resource_type:snapshot"]
    target_path = target_path or invocation_target(dbt, context)
    arguments = ["build", "--select", " ".join(exactly), "--indirect-selection", "buildable"]
    events = [event.raw_event for event in _dbt_events(dbt, arguments, target_path)]
    unmatched = {event["data"].get("spec_raw") for event in events if event["info"]["name"] == _NOTHING_MATCHED}
    if unmatched.issuperset(exactly):
        raise _unknown_model(dbt, name)
    built = next((event["data"] for event in events if event["info"]["name"] in _NODE_RESULTS), None)
    if built is None:
        context.log.info("dbt has nothing to build for %s, an ephemeral model", name)
        return dg.MaterializeResult()
    return dg.MaterializeResult(
        metadata={
            "unique_id": built["node_info"]["unique_id"],
            "dagster/table_name": built["node_info"]["node_relation"]["relation_name"].replace('"', ""),
            "Execution Duration": dg.FloatMetadataValue(float(built["execution_time"])),
        }
    )


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


def _dbt_events(dbt: DbtConnection, arguments: Sequence[str], target_path: Path) -> Iterator[DbtCliEventMessage]:
    """Run dbt with its compiled profile; yields its events as they come, and raises when it failed."""
    with dbt_resource(dbt) as resource:
        # Without a context: dagster-dbt would add a selection of its own to the one in the arguments.
        invocation = resource.cli(arguments, target_path=target_path)
        with interrupted_at_exit(invocation):
            yield from invocation.stream_raw_events()


class _InstalledDbt(DbtCliResource):
    """The dbt of this Python environment; its version is known without asking ``dbt --version``.

    That is a process of seconds, which also asks a package index, before every invocation of newer dagster-dbts.
    """

    @cached_property
    def _cli_version(self) -> Version:
        if Path(self.dbt_executable).parent != Path(sys.executable).parent:
            return super()._cli_version
        return Version(version("dbt-core"))


@contextmanager
def dbt_resource(dbt: DbtConnection) -> Iterator[DbtCliResource]:
    """Give dbt as dagster-dbt runs it, with the profile written for as long as it is used."""
    require_adapter(dbt.profile)
    require_variables(dbt.profile)
    make_database_directory(dbt.profile)
    with written_profile(dbt.profile) as profiles_dir:
        yield _InstalledDbt(
            project_dir=str(dbt.directory.path),
            profiles_dir=str(profiles_dir),
            profile=dbt.profile.name,
            target=dbt.profile.target,
            global_config_flags=_GLOBAL_FLAGS,
            dbt_executable=dbt_executable(),
        )


@contextmanager
def interrupted_at_exit(invocation: DbtCliInvocation) -> Iterator[None]:
    """Interrupt dbt, if it still runs, when Dagster lets go of the step's events: nothing builds unseen."""
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


def invocation_target(dbt: DbtConnection, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Path:
    """Give every dbt invocation a target directory of its own, with the parse that is already known."""
    op = context.op if isinstance(context, dg.OpExecutionContext) else context.op_execution_context.op
    name = f"{op.name}-{context.run.run_id[:8]}-{uuid.uuid4().hex[:8]}"
    target = dbt.directory.written_target / name
    target.mkdir(parents=True, exist_ok=True)
    parsed = find_partial_parse(dbt.directory)
    if parsed:
        shutil.copyfile(parsed, target / parsed.name)
    return target
