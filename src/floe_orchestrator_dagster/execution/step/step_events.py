"""Events of a step that runs dbt, with the quality score and Dagster's failure when the step fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import dagster as dg

from floe_orchestrator_dagster.errors import DbtBuildError, FloeDagsterError
from floe_orchestrator_dagster.execution.record.quality_score import recorded_score
from floe_orchestrator_dagster.execution.step.failure import dagster_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.execution.record.quality_score import ScoredChecks

_Event = TypeVar("_Event")


def step_events(
    events: Iterator[_Event], instance: dg.DagsterInstance, scored: ScoredChecks | None = None
) -> Iterator[_Event | dg.AssetCheckEvaluation]:
    """Yield a step's events, and the quality score if a check or the step failed.

    The score has a separate step after the others. Dagster skips this step when one of the others fails.

    Args:
        events: The events.
        instance: The Dagster instance, with the results of checks.
        scored: The checks in the product's score; None for a product without a score.

    Raises:
        Failure: Nodes failed, or dbt cannot run.
        FloeDagsterError: Another error after which Dagster can retry the step.
    """
    failed = False
    try:
        for event in events:
            failed = failed or _is_error(event)
            yield event
    except FloeDagsterError as error:
        if scored is not None and isinstance(error, DbtBuildError):
            yield recorded_score(instance, scored)
        failure = dagster_failure(error)
        if failure is None:
            raise
        raise failure from error
    if failed and scored is not None:
        yield recorded_score(instance, scored)


def _is_error(event: object) -> bool:
    return (
        isinstance(event, (dg.AssetCheckResult, dg.AssetCheckEvaluation))
        and not event.passed
        and event.severity is dg.AssetCheckSeverity.ERROR
    )
