"""dbt build, streamed into Dagster's events.

dbt runs through dagster-dbt's ``DbtCliResource``; the compiled profile exists on disk only while dbt does.
"""

from __future__ import annotations

import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DbtCliResource

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.product.prepare import PARTIAL_PARSE_FILE
from floe_orchestrator_dagster.product.profiles import make_database_directory, require_variables, written_profile
from floe_orchestrator_dagster.product.project import dbt_executable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dagster_dbt import DbtCliEventMessage

    from floe_orchestrator_dagster.product import DbtConnection, DbtProject

_MODEL_RESULTS = ("LogModelResult", "LogSeedResult", "LogSnapshotResult")
_GLOBAL_FLAGS = ["--no-use-colors", "--no-version-check"]


def build_selection(context: dg.AssetExecutionContext, dbt: DbtProject) -> Iterator[Any]:
    """Run one ``dbt build`` for the assets and checks that the step selected; yields dagster-dbt's events.

    Raises:
        ProfileError: A variable that the profile reads is not set.
    """
    with _dbt_resource(dbt) as resource:
        target_path = _invocation_target(dbt, context)
        yield from resource.cli(["build"], context=context, target_path=target_path).stream()


def build_model(context: dg.AssetExecutionContext, dbt: DbtConnection, name: str) -> dg.MaterializeResult[Any]:
    """Run ``dbt build`` for one model, seed or snapshot and its tests.

    Raises:
        ProfileError: A variable that the profile reads is not set.
        DbtBuildError: dbt has nothing of that name, so nothing was built.
    """
    with _dbt_resource(dbt) as resource:
        target_path = _invocation_target(dbt, context)
        invocation = resource.cli(["build", "--select", name], target_path=target_path)
        results = [event for event in invocation.stream_raw_events() if _event_name(event) in _MODEL_RESULTS]
    if not results:
        raise DbtBuildError(
            f"{dbt.directory.path}: dbt built nothing for {name!r}, it has no such model, seed or snapshot. "
            "Correct the name, or set FLOE_DBT_PROJECT_DIR to the project that has it."
        )
    data = results[-1].raw_event["data"]
    node = data["node_info"]
    return dg.MaterializeResult(
        metadata={
            "unique_id": node["unique_id"],
            "dagster/table_name": node["node_relation"]["relation_name"].replace('"', ""),
            "Execution Duration": dg.FloatMetadataValue(float(data["execution_time"])),
        }
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
