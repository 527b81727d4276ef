"""Quality score of declared checks and other dbt tests, by floe-core's formula."""

from __future__ import annotations

import pytest
from floe_core.schemas.quality_config import Dimension, QualityConfig, SeverityLevel

from floe_orchestrator_dagster.execution.record.quality_score import (
    ScoredResult,
    is_below_minimum,
    is_below_warning,
    product_score,
)

CONFIG = QualityConfig.model_validate({"provider": "dbt_expectations"})


def check(dimension: Dimension, severity: SeverityLevel, *, passed: bool) -> ScoredResult:
    return ScoredResult(f"{dimension.value}_{severity.value}", passed, dimension, severity)


def test_declared_checks_are_weighted_by_dimension_and_severity() -> None:
    score = product_score(
        "shop",
        [
            check(Dimension.COMPLETENESS, SeverityLevel.CRITICAL, passed=True),
            check(Dimension.COMPLETENESS, SeverityLevel.WARNING, passed=False),
            check(Dimension.VALIDITY, SeverityLevel.INFO, passed=False),
        ],
        CONFIG,
    )

    # Completeness 3 of 4, validity 0, others 100: 18.75 + 25 + 0 + 15 + 15 = 73.75, then floe's scale around 70.
    assert score.dimension_scores[Dimension.COMPLETENESS] == 75
    assert score.dimension_scores[Dimension.VALIDITY] == 0
    assert score.overall == pytest.approx(73.75)
    assert (score.checks_passed, score.checks_failed) == (1, 2)


def test_score_with_other_dbt_tests_is_the_share_that_passed() -> None:
    results = [
        check(Dimension.ACCURACY, SeverityLevel.CRITICAL, passed=False),
        *(ScoredResult(f"t{number}", passed=number > 0) for number in range(4)),
    ]

    score = product_score("shop", results, CONFIG)

    # 3 of 5 passed: 60 is 1/7 below the baseline of 70, whose share of the 50 points to lose is taken off.
    assert score.overall == pytest.approx(70 - 50 / 7)
    assert (score.dbt_tests_passed, score.dbt_tests_failed) == (3, 1)


def test_nothing_to_score_is_perfect() -> None:
    assert product_score("shop", [], CONFIG).overall == 100


@pytest.mark.parametrize(
    ("passed", "below_minimum", "below_warning"), [(1, True, True), (3, False, True), (4, False, False)]
)
def test_thresholds_are_the_configurations(passed: int, *, below_minimum: bool, below_warning: bool) -> None:
    results = [ScoredResult(f"t{number}", passed=number < passed) for number in range(4)]

    score = product_score("shop", results, CONFIG)

    assert is_below_minimum(score, CONFIG) is below_minimum
    assert is_below_warning(score, CONFIG) is below_warning
