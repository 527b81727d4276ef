"""Declared quality checks of a model whose dbt tests are known only once dbt has run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import DbtBuildError, DbtNodesError
from floe_orchestrator_dagster.execution.dbt.target import new_target
from floe_orchestrator_dagster.execution.step.build import build_model
from floe_orchestrator_dagster.product.files import read_json
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE, read_manifest
from floe_orchestrator_dagster.product.quality import UNIMPLEMENTED, match_quality_checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import ResolvedModel
    from floe_core.schemas.quality_score import QualityCheck

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.product import DbtConnection

_RESULTS_FILE = "run_results.json"
_NOT_RUN = ("skipped", "no result")


def build_checked_model(
    context: dg.AssetExecutionContext,
    dbt: DbtConnection,
    model: ResolvedModel,
    checks: Mapping[dg.AssetCheckKey, QualityCheck],
    config: DbtConfig,
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Build a model as :func:`build_model` does, and report what its dbt tests say about the declared checks.

    Raises:
        ProfileError: A variable that the profile reads is not set.
        DbtBuildError: dbt has nothing of that name.
    """
    target = new_target(dbt, context.op_execution_context.op.name, context.run.run_id)
    target_path = target.path
    try:
        built = build_model(context, dbt, model.name, config, target)
    except DbtNodesError:
        if (target_path / _RESULTS_FILE).is_file():
            yield from _check_results(target_path, model, checks)
        raise
    yield built
    yield from _check_results(target_path, model, checks)


def _check_results(
    target_path: Path, model: ResolvedModel, checks: Mapping[dg.AssetCheckKey, QualityCheck]
) -> Iterator[dg.AssetCheckResult]:
    """Read what dbt wrote: its manifest says which tests implement a check, its run results how they ended."""
    manifest = read_manifest(target_path / MANIFEST_FILE).content
    path = target_path / _RESULTS_FILE
    content: Any = read_json(path, lambda origin, problems: DbtBuildError(f"{origin}: {problems[0]}"), "Run it again.")
    statuses = {result["unique_id"]: str(result["status"]) for result in content["results"]}
    found = match_quality_checks([model], manifest).checks
    for key, check in checks.items():
        tests = {test for declared in found if declared.check == check for test in declared.tests}
        outcome = {manifest["nodes"][test]["name"]: statuses.get(test, "no result") for test in sorted(tests)}
        yield _check_result(key, check, outcome)


def _check_result(key: dg.AssetCheckKey, check: QualityCheck, outcome: Mapping[str, str]) -> dg.AssetCheckResult:
    passed = bool(outcome) and all(status == "pass" for status in outcome.values())
    has_run = bool(outcome) and not any(status in _NOT_RUN for status in outcome.values())
    is_error = has_run and check.severity.value == "critical"
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=_description(outcome, has_run=has_run),
        metadata={"dbt_tests": dg.JsonMetadataValue(dict(outcome))},
    )


def _description(outcome: Mapping[str, str], *, has_run: bool) -> str | None:
    if not outcome:
        return UNIMPLEMENTED
    return None if has_run else "dbt did not run its test: it reads what is not upstream of this model, or was skipped"
