"""Declared quality checks of a model whose dbt tests are unknown until dbt has run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import DbtNodesError
from floe_orchestrator_dagster.execution.step.build import build_model, model_invocation
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE, read_manifest
from floe_orchestrator_dagster.product.quality import UNIMPLEMENTED, match_quality_checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import ResolvedModel
    from floe_core.schemas.quality_score import QualityCheck

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.product import DbtConnection

_NO_RESULT = "no result"


def build_checked_model(
    context: dg.AssetExecutionContext,
    dbt: DbtConnection,
    model: ResolvedModel,
    checks: Mapping[dg.AssetCheckKey, QualityCheck],
    config: DbtConfig,
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Build a model as :func:`build_model` does, and yield the results of its declared checks.

    Raises:
        ProfileError: An environment variable of the profile is not set.
        DbtBuildError: dbt has no model of this name, dbt failed, or nodes failed.
    """
    invocation = model_invocation(context.op_execution_context, dbt, config)
    manifest, results = invocation.target.path / MANIFEST_FILE, invocation.results.finished
    try:
        built = build_model(context, dbt, model.name, config, invocation)
    except DbtNodesError:
        if manifest.is_file():
            yield from _check_results(manifest, results, model, checks)
        raise
    yield built
    yield from _check_results(manifest, results, model, checks)


def _check_results(
    manifest: Path,
    results: Mapping[str, NodeResult],
    model: ResolvedModel,
    checks: Mapping[dg.AssetCheckKey, QualityCheck],
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of checks, from the tests in dbt's manifest that implement them."""
    content = read_manifest(manifest).content
    found = match_quality_checks([model], content).checks
    for key, check in checks.items():
        tests = {test for declared in found if declared.check == check for test in declared.tests}
        yield _check_result(key, check, {content["nodes"][test]["name"]: results.get(test) for test in sorted(tests)})


def _check_result(
    key: dg.AssetCheckKey, check: QualityCheck, tests: Mapping[str, NodeResult | None]
) -> dg.AssetCheckResult:
    """Combine the results of the tests that implement a check; None means a test that dbt did not run."""
    passed = bool(tests) and all(result is not None and result.passed for result in tests.values())
    has_run = bool(tests) and not any(result is None or result.was_skipped for result in tests.values())
    statuses = {name: result.status if result is not None else _NO_RESULT for name, result in tests.items()}
    is_error = has_run and check.severity.value == "critical"
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=_description(statuses, has_run=has_run),
        metadata={"dbt_tests": dg.JsonMetadataValue(statuses)},
    )


def _description(statuses: Mapping[str, str], *, has_run: bool) -> str | None:
    if not statuses:
        return UNIMPLEMENTED
    return (
        None
        if has_run
        else "dbt did not run its test: it reads nodes that are not upstream of this model, or was skipped"
    )
