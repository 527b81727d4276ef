"""Late assets: those whose freshness policy fails or warns.

Dagster's daemon decides this without a run. It is read from the daemon's latest state of each policy.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.automation.alerts.incidents import LATE, Fault, Outcome
from floe_orchestrator_dagster.upstream.dagster_freshness import freshness_states
from floe_orchestrator_dagster.upstream.dagster_materializations import latest_materializations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import dagster as dg

    from floe_orchestrator_dagster.automation.alerts.incidents import Incident
    from floe_orchestrator_dagster.automation.alerts.run_outcome import AlertedProduct
    from floe_orchestrator_dagster.upstream.dagster_freshness import FreshnessState
    from floe_orchestrator_dagster.upstream.dagster_materializations import Materialization

_FRESH = "PASS"
_WARNS = {"FAIL": False, "WARN": True}
_HAS_NO_STATE = ("UNKNOWN", "NOT_APPLICABLE")  # the asset's materializations were wiped


def late_outcomes(
    instance: dg.DagsterInstance,
    product: AlertedProduct,
    broken: Mapping[str, Incident],
    page: Callable[[str], str],
    since: float,
) -> Iterator[Outcome]:
    """Yield an outcome for each late asset, and for each that is not late any more.

    Its run is the last one that built the asset.

    Args:
        instance: The Dagster instance.
        product: The product.
        broken: The open incidents, by subject.
        page: Returns the address of a run's page.
        since: Time in seconds since 1970. Assets that have been late since before lead to no outcome.
    """
    now = time.time()
    states = freshness_states(instance, product.timely)
    reported = {key for key, state in states.items() if _has_message(state, broken.get(_subject(key)), since)}
    builds = latest_materializations(instance, reported)
    for key, state in states.items():
        subject, build = _subject(key), builds.get(key)
        is_open = subject in broken
        run = page(build.run_id) if build is not None and build.run_id else ""
        if state.name == _FRESH and is_open:
            yield Outcome(run, fine={subject: now})
        elif state.name in _HAS_NO_STATE and is_open:
            yield Outcome(run, unknown=[subject])
        elif state.name in _WARNS and (is_open or state.since >= since):
            message = _sentence(build) if key in reported else ""
            owners = product.owners_of(key)
            fault = Fault(subject, message, now, key.to_user_string(), owners, _WARNS[state.name], LATE)
            yield Outcome(run, [fault])


def _subject(key: dg.AssetKey) -> str:
    return f"freshness of {key.to_user_string()}"


def _has_message(state: FreshnessState, known: Incident | None, since: float) -> bool:
    """Return whether the state starts, ends or worsens an incident, so that its message needs the last build."""
    if state.name == _FRESH:
        return known is not None
    if state.name not in _WARNS:
        return False
    return state.since >= since if known is None else known.is_warning and not _WARNS[state.name]


def _sentence(build: Materialization | None) -> str:
    """Return the sentence about the last build of a late asset."""
    if build is None:  # its materializations were wiped
        return "It was never built."
    built = datetime.fromtimestamp(build.timestamp, tz=timezone.utc)
    return f"It was built last at {built:%Y-%m-%d %H:%M} UTC, which its freshness policy does not allow."
