"""Quality score from the latest evaluations in Dagster, recorded by failing steps, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from floe_core.schemas.quality_config import QualityConfig
from floe_core.schemas.quality_score import QualityCheck

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.record.quality_score import ScoredChecks, evaluate_score
from floe_orchestrator_dagster.execution.step.build import step_events

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG = QualityConfig.model_validate({"provider": "dbt_expectations"})
ORDERS = dg.AssetKey("orders")
SCORE = dg.AssetCheckKey(dg.AssetKey("shop"), "quality_score")


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral(tempdir=str(tmp_path))


def key(name: str) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(ORDERS, name)


def declared(name: str, dimension: str, severity: str = "critical") -> QualityCheck:
    return QualityCheck.model_validate({"name": name, "type": "unique", "dimension": dimension, "severity": severity})


def scored(
    tests: Mapping[str, QualityCheck | None], unimplemented: Mapping[str, QualityCheck] | None = None
) -> ScoredChecks:
    return ScoredChecks(
        key=SCORE,
        product_name="shop",
        config=CONFIG,
        tests={key(name): check for name, check in tests.items()},
        unimplemented={key(name): check for name, check in (unimplemented or {}).items()},
    )


def evaluate(instance: dg.DagsterInstance, *, fail: bool = False, **passed: bool) -> None:
    """Run an asset with these checks; ``fail`` ends the run before any is evaluated."""

    @dg.multi_asset(
        outs={"orders": dg.AssetOut(key=ORDERS)},
        check_specs=[dg.AssetCheckSpec(name, asset=ORDERS) for name in passed],
    )
    def orders() -> Iterator[dg.Output[int] | dg.AssetCheckResult]:
        if fail:
            raise ValueError("no orders today")
        yield dg.Output(1, "orders")
        for name, has_passed in passed.items():
            yield dg.AssetCheckResult(check_name=name, asset_key=ORDERS, passed=has_passed)

    dg.materialize([orders], instance=instance, raise_on_error=False)


def values(result: dg.AssetCheckResult) -> dict[str, object]:
    return {name.removeprefix("floe/"): value.value for name, value in result.metadata.items()}


def test_latest_evaluation_counts_and_what_never_ran_is_told(instance: dg.DagsterInstance) -> None:
    evaluate(instance, a=True, b=False)
    evaluate(instance, a=False, b=True)

    result = evaluate_score(instance, scored({"a": None, "b": None, "c": None}))

    assert (
        values(result).items()
        >= {
            "other_dbt_tests_passed": 1,
            "other_dbt_tests_failed": 1,
            "never_evaluated": 1,
        }.items()
    )


def test_check_that_was_planned_and_did_not_run_keeps_what_it_found_before(instance: dg.DagsterInstance) -> None:
    evaluate(instance, a=True)
    evaluate(instance, fail=True, a=False, b=False)

    result = evaluate_score(instance, scored({"a": None, "b": None}))

    assert result.passed
    assert values(result).items() >= {"score": 100.0, "other_dbt_tests_passed": 1, "never_evaluated": 1}.items()


def test_declared_check_passes_when_all_its_tests_do(instance: dg.DagsterInstance) -> None:
    evaluate(instance, a=True, b=False)
    check = declared("ids", "consistency")

    result = evaluate_score(instance, scored({"a": check, "b": check}))

    assert values(result).items() >= {"checks_passed": 0, "checks_failed": 1, "score/consistency": 0.0}.items()


def test_unimplemented_check_has_not_passed(instance: dg.DagsterInstance) -> None:
    result = evaluate_score(instance, scored({}, {"x": declared("x", "timeliness")}))

    assert values(result).items() >= {"checks_failed": 1, "checks_unimplemented": 1, "score/timeliness": 0.0}.items()


@pytest.mark.parametrize(
    ("passing", "passed", "severity"),
    [
        (4, True, dg.AssetCheckSeverity.WARN),
        (3, False, dg.AssetCheckSeverity.WARN),
        (1, False, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_thresholds_decide_between_warning_and_error(
    instance: dg.DagsterInstance, passing: int, severity: dg.AssetCheckSeverity, *, passed: bool
) -> None:
    names = ["a", "b", "c", "d"]
    evaluate(instance, **{name: row < passing for row, name in enumerate(names)})

    result = evaluate_score(instance, scored(dict.fromkeys(names)))

    assert (result.passed, result.severity) == (passed, severity)


# --- steps that fail ------------------------------------------------------------------------------------------------


def events(*found: dg.AssetCheckResult, fail: bool = False) -> Iterator[dg.AssetCheckResult]:
    yield from found
    if fail:
        raise DbtBuildError("dbt failed")


def outcome(*, passed: bool, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(asset_key=ORDERS, check_name="a", passed=passed, severity=severity)


@pytest.mark.parametrize(
    ("found", "recorded"),
    [
        (outcome(passed=True, severity=dg.AssetCheckSeverity.ERROR), False),
        (outcome(passed=False, severity=dg.AssetCheckSeverity.WARN), False),
        (outcome(passed=False, severity=dg.AssetCheckSeverity.ERROR), True),
    ],
)
def test_score_is_recorded_after_a_failed_check_of_severity_error(
    instance: dg.DagsterInstance, found: dg.AssetCheckResult, *, recorded: bool
) -> None:
    passed_on = list(step_events(events(found), instance, scored({})))

    assert passed_on[0] == found
    assert [event.check_name for event in passed_on[1:]] == ["quality_score"] * recorded


def test_score_is_recorded_before_a_step_fails(instance: dg.DagsterInstance) -> None:
    passed_on = step_events(events(fail=True), instance, scored({}))

    assert next(passed_on).check_name == "quality_score"
    with pytest.raises(DbtBuildError, match="dbt failed"):
        next(passed_on)
