"""dbt source freshness as asset check results (https://docs.getdbt.com/reference/commands/source)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.dbt.core_process import RELATIONS
from floe_orchestrator_dagster.execution.dbt.invocation import running_dbt
from floe_orchestrator_dagster.execution.dbt.target import leave_target, new_target
from floe_orchestrator_dagster.execution.step.node_selection import Selection, selection_arguments
from floe_orchestrator_dagster.execution.step.retry import done_before, handed_over
from floe_orchestrator_dagster.execution.step.run_options import variables
from floe_orchestrator_dagster.execution.step.run_process import end_with_run
from floe_orchestrator_dagster.execution.step.step_lineage import is_of_other_target, step_lineage
from floe_orchestrator_dagster.product.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from floe_orchestrator_dagster.execution.step.run_options import SourceOptions
    from floe_orchestrator_dagster.execution.step.step_lineage import StepLineage
    from floe_orchestrator_dagster.product import DbtConnection, Product

_RESULTS_FILE = "sources.json"
_WARNING = "warn"
_UNKNOWN = "runtime error"
_NO_RESULT = "dbt has no result for this source"


def freshness_step(product: Product) -> str:
    """Name the step that checks the freshness of a product's sources."""
    return f"{product.identifier}_source_freshness"


def check_freshness(  # noqa: PLR0913, PLR0917  # a step has these parts
    context: dg.OpExecutionContext,
    product: Product,
    connection: DbtConnection,
    sources: Mapping[dg.AssetCheckKey, str],
    options: SourceOptions,
    steps: Sequence[str],
    excluded: AbstractSet[str] = frozenset(),
) -> Iterator[dg.AssetCheckResult]:
    """Run one ``dbt source freshness`` for the sources of the selected checks.

    Sources that were fresh enough in an earlier try are not looked at again.

    Args:
        context: The step's.
        product: The product.
        connection: Its dbt project, and the profile.
        sources: dbt unique id of the source behind each selected check.
        options: What the run asks of dbt.
        steps: Names of all steps of the product that run dbt.
        excluded: Unique ids of what the run leaves out.

    Raises:
        ProfileError: A variable that the profile reads is not set.
        DbtBuildError: dbt ended without a result.
    """
    done = {key: found for key, found in done_before(context, {}).checks.items() if key in sources}
    for result in handed_over(context, {}, done):
        if isinstance(result, dg.AssetCheckResult):
            yield result
    left = {key: source for key, source in sources.items() if key not in done and source not in excluded}
    if not left:
        with step_lineage(context, product, connection, None, steps):  # it may be the run's first step, or its last
            return
    yield from _looked_at(context, product, options.connection(connection), left, options, steps)


def _looked_at(  # noqa: PLR0913, PLR0917  # as above
    context: dg.OpExecutionContext,
    product: Product,
    dbt: DbtConnection,
    sources: Mapping[dg.AssetCheckKey, str],
    options: SourceOptions,
    steps: Sequence[str],
) -> Iterator[dg.AssetCheckResult]:
    asked = [*variables(options.vars), *options.arguments()]
    end_with_run(context)
    target, config = new_target(dbt, context.op.name, context.run.run_id), product.config.dbt
    selection = selection_arguments(Selection(frozenset(sources.values())), target.path / "selection")
    arguments = ["source", "freshness", *selection, *asked]
    path, has_ended = target.path / _RESULTS_FILE, False
    try:
        traceparent = telemetry.trace_environment().get("TRACEPARENT")
        with step_lineage(context, product, dbt, target, steps, traceparent=traceparent) as lineage:
            needs_manifest = is_of_other_target(product, dbt)
            with running_dbt(
                dbt, arguments, target.path, config, context.log, needs_manifest=needs_manifest
            ) as invocation:
                errors = dict(_errors(invocation.events(), lineage))
                if not path.is_file():
                    invocation.require_end([])
            content = _content(path, dbt)
            has_ended = True
            if lineage is not None:
                lineage.freshness([*content["results"], *_without_result(sources.values(), content["results"], errors)])
    finally:
        leave_target(target, config, has_succeeded=has_ended)
    results = {result["unique_id"]: result for result in content["results"]}
    for key, unique_id in sources.items():
        yield _check_result(key, results.get(unique_id), errors.get(unique_id))


def _content(path: Path, dbt: DbtConnection) -> Any:  # noqa: ANN401  # JSON
    if not path.is_file():
        fix = "The step's captured output holds what dbt said."
        raise DbtBuildError(f"{dbt.directory.path}: dbt source freshness ended without a result. {fix}")
    return read_json(path, lambda origin, problems: DbtBuildError(f"{origin}: {problems[0]}"), "Run it again.")


def _errors(events: Iterable[Mapping[str, Any]], lineage: StepLineage | None) -> Iterator[tuple[str, str]]:
    """Take dbt's error messages about sources from its log: its results leave such sources out.

    Lineage takes the names of the tables from it.
    """
    for event in events:
        if event["info"]["name"] == RELATIONS and lineage is not None and lineage.manifest is not None:
            lineage.manifest = lineage.manifest.with_relations(event["data"]["relations"])
        node = event["data"].get("node_info") or {}
        if event["info"]["level"] == "error" and node.get("unique_id"):
            yield node["unique_id"], str(event["info"]["msg"]).strip()


def _without_result(
    sources: Iterable[str], results: Sequence[Mapping[str, Any]], errors: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """Write an entry for each source that dbt's results leave out: it could not be looked at."""
    now, found = datetime.now(tz=timezone.utc).isoformat(), {result["unique_id"] for result in results}
    return [
        {"unique_id": one, "status": _UNKNOWN, "error": errors.get(one, _NO_RESULT), "snapshotted_at": now}
        for one in sources
        if one not in found
    ]


def _check_result(key: dg.AssetCheckKey, result: Mapping[str, Any] | None, error: str | None) -> dg.AssetCheckResult:
    status = result["status"] if result else _UNKNOWN
    is_warning = status == _WARNING
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=status == "pass",
        severity=dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR,
        description=f"dbt's status: {status}" if result else error or _NO_RESULT,
        metadata=_metadata(result) if result else {"status": status},
    )


def _metadata(result: Mapping[str, Any]) -> dict[str, Any]:
    criteria = {name: value for name, value in result["criteria"].items() if value}
    return {
        "status": result["status"],
        "max_loaded_at": result["max_loaded_at"],
        "snapshotted_at": result["snapshotted_at"],
        "age_seconds": dg.FloatMetadataValue(float(result["max_loaded_at_time_ago_in_s"])),
        "criteria": dg.JsonMetadataValue(criteria),
    }
