"""Quality score of a product, computed with floe-core's formula from the latest results of its checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
from floe_core.schemas.quality_score import QualityCheckResult, QualitySuiteResult
from floe_core.scoring import calculate_unified_score, check_score_thresholds

from floe_orchestrator_dagster.upstream.dagster_check_records import latest_evaluations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from floe_core.schemas.quality_config import Dimension, QualityConfig, SeverityLevel
    from floe_core.schemas.quality_score import QualityCheck, QualityScore


@dataclass(frozen=True)
class ScoredChecks:
    """The checks of a product's score.

    Attributes:
        key: The check with the score.
        product_name: The product's name.
        config: Weights and thresholds.
        tests: Checks that run, each with its declaration in the contract; None for other dbt tests.
        unimplemented: Declared checks without a dbt test, by the check that reports this.
    """

    key: dg.AssetCheckKey
    product_name: str
    config: QualityConfig
    tests: Mapping[dg.AssetCheckKey, QualityCheck | None]
    unimplemented: Mapping[dg.AssetCheckKey, QualityCheck]


def evaluate_score(instance: dg.DagsterInstance, scored: ScoredChecks) -> dg.AssetCheckResult:
    """Compute the score from the latest evaluation of each check, without checks that were never evaluated."""
    passed = latest_evaluations(instance, list(scored.tests))
    results = [*_results(scored, passed)]
    if not results:
        return dg.AssetCheckResult(
            asset_key=scored.key.asset_key,
            check_name=scored.key.name,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description="no check was evaluated yet, so there is nothing to score",
            metadata={"floe/never_evaluated": len(scored.tests)},
        )
    score = product_score(scored.product_name, results, scored.config)
    severity = dg.AssetCheckSeverity.ERROR if is_below_minimum(score, scored.config) else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        asset_key=scored.key.asset_key,
        check_name=scored.key.name,
        passed=not is_below_warning(score, scored.config) and not is_below_minimum(score, scored.config),
        severity=severity,
        metadata=_metadata(score, scored, never_evaluated=len(scored.tests) - len(passed)),
    )


def recorded_score(instance: dg.DagsterInstance, scored: ScoredChecks) -> dg.AssetCheckEvaluation:
    """Compute the score as an event, because Dagster rejects the result of a check that the step did not select."""
    result = evaluate_score(instance, scored)
    return dg.AssetCheckEvaluation(
        asset_key=scored.key.asset_key,
        check_name=scored.key.name,
        passed=result.passed,
        severity=result.severity,
        metadata=result.metadata,
        description=result.description,
    )


def _results(scored: ScoredChecks, passed: Mapping[dg.AssetCheckKey, bool]) -> Iterator[ScoredResult]:
    """Yield one result per declared check, which can have several dbt tests, and one per other test."""
    declared: dict[tuple[dg.AssetKey, str], tuple[QualityCheck, bool]] = {}
    for key, has_passed in passed.items():
        check = scored.tests[key]
        if check is None:
            yield ScoredResult(key.name, has_passed)
            continue
        name = (key.asset_key, check.name)
        declared[name] = (check, has_passed and declared.get(name, (check, True))[1])
    for check, has_passed in declared.values():
        yield ScoredResult(check.name, has_passed, check.dimension, check.severity)
    for check in scored.unimplemented.values():
        yield ScoredResult(check.name, passed=False, dimension=check.dimension, severity=check.severity)


def _metadata(score: QualityScore, scored: ScoredChecks, never_evaluated: int) -> dict[str, float | int]:
    return {
        "floe/score": round(score.overall, 2),
        **{f"floe/score/{dimension.value}": round(value, 2) for dimension, value in score.dimension_scores.items()},
        "floe/min_score": scored.config.thresholds.min_score,
        "floe/warn_score": scored.config.thresholds.warn_score,
        "floe/checks_passed": score.checks_passed,
        "floe/checks_failed": score.checks_failed,
        "floe/checks_unimplemented": len(scored.unimplemented),
        "floe/other_dbt_tests_passed": score.dbt_tests_passed,
        "floe/other_dbt_tests_failed": score.dbt_tests_failed,
        "floe/never_evaluated": never_evaluated,
    }


@dataclass(frozen=True)
class ScoredResult:
    """The latest result of a declared check, or of a dbt test that the contract does not declare.

    Attributes:
        name: Name of the check.
        passed: Whether it passed. A declared check without a dbt test counts as failed.
        dimension: The contract's dimension; None for a dbt test that the contract does not declare.
        severity: The contract's severity; None when the dimension is None.
    """

    name: str
    passed: bool
    dimension: Dimension | None = None
    severity: SeverityLevel | None = None


def product_score(product_name: str, results: Iterable[ScoredResult], config: QualityConfig) -> QualityScore:
    """Compute the score, from 0 to 100, with floe-core's calculator.

    The scores per dimension come from declared checks. The overall score is weighted by dimension and severity when
    all results are of declared checks; otherwise floe-core uses the share of all results that passed.
    """
    every = list(results)
    declared = [
        QualityCheckResult(
            check_name=result.name, passed=result.passed, dimension=result.dimension, severity=result.severity
        )
        for result in every
        if result.dimension is not None and result.severity is not None
    ]
    others = [result.passed for result in every if result.dimension is None]
    suite = QualitySuiteResult(
        suite_name=product_name,
        model_name=product_name,
        passed=all(result.passed for result in every),
        checks=declared,
    )
    return calculate_unified_score(suite, {"passed": sum(others), "failed": len(others) - sum(others)}, config)


def is_below_minimum(score: QualityScore, config: QualityConfig) -> bool:
    """Return whether the score is below ``min_score``."""
    return check_score_thresholds(score.overall, config)["blocked"]


def is_below_warning(score: QualityScore, config: QualityConfig) -> bool:
    """Return whether the score is below ``warn_score``."""
    return check_score_thresholds(score.overall, config)["warning"]
