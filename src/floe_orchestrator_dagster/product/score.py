"""Computation of the product's quality score with floe-core's formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from floe_core.schemas.quality_score import QualityCheckResult, QualitySuiteResult
from floe_core.scoring import calculate_unified_score, check_score_thresholds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from floe_core.schemas.quality_config import Dimension, QualityConfig, SeverityLevel
    from floe_core.schemas.quality_score import QualityScore


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
