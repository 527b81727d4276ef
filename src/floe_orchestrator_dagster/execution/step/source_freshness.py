"""dbt source freshness as asset check results (https://docs.getdbt.com/reference/commands/source)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.dbt.engine import engine_for
from floe_orchestrator_dagster.execution.dbt.node_result import (
    EngineValue,
    NodeError,
    NodeResult,
    TableNames,
    read_source_result,
)
from floe_orchestrator_dagster.execution.dbt.target import SOURCE_RESULTS_FILE, leave_target, new_target
from floe_orchestrator_dagster.execution.step.node_selection import Selection, selection_arguments
from floe_orchestrator_dagster.execution.step.retry import done_before, handed_over
from floe_orchestrator_dagster.execution.step.run_options import variables
from floe_orchestrator_dagster.execution.step.step_invocation import ended_with_run
from floe_orchestrator_dagster.execution.step.step_lineage import is_of_other_target, step_lineage
from floe_orchestrator_dagster.product.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from floe_orchestrator_dagster.execution.step.run_options import SourceOptions
    from floe_orchestrator_dagster.execution.step.step_lineage import StepLineage
    from floe_orchestrator_dagster.product import DbtConnection, Product

_UNKNOWN = "runtime error"
_NO_RESULT = "dbt has no result for this source"


def freshness_step(product: Product) -> str:
    """Return the name of the step that checks the freshness of a product's sources."""
    return f"{product.identifier}_source_freshness"


def check_freshness(  # noqa: PLR0913, PLR0917  # a step needs all of these
    context: dg.OpExecutionContext,
    product: Product,
    connection: DbtConnection,
    sources: Mapping[dg.AssetCheckKey, str],
    options: SourceOptions,
    steps: Sequence[str],
    excluded: AbstractSet[str] = frozenset(),
) -> Iterator[dg.AssetCheckResult]:
    """Run one ``dbt source freshness`` for the sources of the selected checks.

    Sources that passed in an earlier try are not checked again.

    Args:
        context: The step's context.
        product: The product.
        connection: The dbt project and profile.
        sources: dbt unique ids of the sources, by selected check.
        options: The run's options for dbt.
        steps: Names of all steps of the product that run dbt.
        excluded: Unique ids that the run excludes.

    Raises:
        ProfileError: An environment variable of the profile is not set.
        DbtBuildError: dbt ended without a result.
    """
    done = {key: found for key, found in done_before(context, {}).checks.items() if key in sources}
    for result in handed_over(context, {}, done):
        if isinstance(result, dg.AssetCheckResult):
            yield result
    left = {key: source for key, source in sources.items() if key not in done and source not in excluded}
    if not left:
        with step_lineage(context, product, connection, None, steps):  # can be the first or last step of the run
            return
    yield from _fresh_results(context, product, options.connection(connection), left, options, steps)


def _fresh_results(  # noqa: PLR0913, PLR0917  # as above
    context: dg.OpExecutionContext,
    product: Product,
    dbt: DbtConnection,
    sources: Mapping[dg.AssetCheckKey, str],
    options: SourceOptions,
    steps: Sequence[str],
) -> Iterator[dg.AssetCheckResult]:
    asked = [*variables(options.vars), *options.arguments()]
    target, config = new_target(dbt, context.op.name, context.run.run_id), product.config.dbt
    selection = selection_arguments(Selection(frozenset(sources.values())), target.path / "selection")
    arguments, unique_ids = [*selection, *asked], sorted(sources.values())
    path, has_ended = target.path / SOURCE_RESULTS_FILE, False
    try:
        traceparent = telemetry.trace_environment().get("TRACEPARENT")
        with (
            ended_with_run(context),
            step_lineage(context, product, dbt, target, steps, traceparent=traceparent) as lineage,
        ):
            needs_manifest = is_of_other_target(product, dbt)
            engine = engine_for(dbt, config, context.log)
            started = engine.freshness(unique_ids, arguments, target.path, needs_manifest=needs_manifest)
            with started as invocation:
                errors = dict(_errors(invocation.values(), lineage))
                if not path.is_file():
                    invocation.require_end([])
            results = _results(path, dbt, sources.values(), errors)
            has_ended = True
            if lineage is not None:
                lineage.freshness(results.values())
    finally:
        leave_target(target, config, has_succeeded=has_ended)
    for key, unique_id in sources.items():
        yield _check_result(key, results[unique_id])


def _results(
    path: Path, dbt: DbtConnection, sources: Iterable[str], errors: Mapping[str, str]
) -> dict[str, NodeResult]:
    """Read dbt's results by unique id. For a source without a result, dbt's error is its result."""
    if not path.is_file():
        fix = "See the step's captured output."
        raise DbtBuildError(f"{dbt.directory.path}: dbt source freshness ended without a result. {fix}")
    content: Any = read_json(path, lambda origin, problems: DbtBuildError(f"{origin}: {problems[0]}"), "Run it again.")
    read = [result for entry in content["results"] if (result := read_source_result(entry)) is not None]
    found = {result.unique_id: result for result in read}
    now = datetime.now(tz=timezone.utc).isoformat()
    return found | {one: _unknown(one, errors.get(one, _NO_RESULT), now) for one in sources if one not in found}


def _unknown(unique_id: str, error: str, now: str) -> NodeResult:
    name = unique_id.rpartition(".")[2]
    return NodeResult(unique_id, name, "source", "", _UNKNOWN, error, started=now, finished=now)


def _errors(values: Iterable[EngineValue], lineage: StepLineage | None) -> Iterator[tuple[str, str]]:
    """Yield dbt's error messages by source, because its results omit sources with an error.

    The names of tables in this run are passed to the lineage.
    """
    for value in values:
        if isinstance(value, TableNames) and lineage is not None and lineage.manifest is not None:
            lineage.manifest = lineage.manifest.with_relations(value.relations)
        elif isinstance(value, NodeError):
            yield value.unique_id, value.message


def _check_result(key: dg.AssetCheckKey, result: NodeResult) -> dg.AssetCheckResult:
    is_known = result.freshness is not None
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.passed,
        severity=dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR,
        description=f"dbt's status: {result.status}" if is_known else result.message or _NO_RESULT,
        metadata=_metadata(result),
    )


def _metadata(result: NodeResult) -> dict[str, Any]:
    freshness = result.freshness
    if freshness is None:
        return {"status": result.status}
    return {
        "status": result.status,
        "max_loaded_at": freshness.max_loaded_at,
        "snapshotted_at": freshness.snapshotted_at,
        "age_seconds": dg.FloatMetadataValue(freshness.age_seconds),
        "criteria": dg.JsonMetadataValue({name: value for name, value in freshness.criteria.items() if value}),
    }
