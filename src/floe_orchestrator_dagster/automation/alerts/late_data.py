"""Late assets: those whose freshness policy fails or warns.

Dagster's daemon decides this without a run. It is read from the daemon's latest state of each policy.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.automation.alerts.incidents import LATE, Fault, Outcome
from floe_orchestrator_dagster.upstream.dagster_freshness import freshness_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import dagster as dg

    from floe_orchestrator_dagster.automation.alerts.incidents import Incident
    from floe_orchestrator_dagster.automation.alerts.run_outcome import AlertedProduct

_FRESH = "PASS"
_WARNS = {"FAIL": False, "WARN": True}


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
    for key, state in freshness_states(instance, product.timely).items():
        subject = f"freshness of {key.to_user_string()}"
        known = broken.get(subject)
        if state.name == _FRESH and known is not None:
            run, _ = _last_build(instance, key)
            yield Outcome(page(run), fine={subject: now})
        elif state.name in _WARNS and (known is not None or state.since >= since):
            is_warning = _WARNS[state.name]
            is_new = known is None or known.is_warning != is_warning
            run, message = _last_build(instance, key) if is_new else ("", "")
            owners = product.owners_of(key)
            fault = Fault(subject, message, now, key.to_user_string(), owners, is_warning, LATE)
            yield Outcome(page(run), [fault])


def _last_build(instance: dg.DagsterInstance, key: dg.AssetKey) -> tuple[str, str]:
    """Return the run that materialized an asset last, and a sentence about it."""
    entry = instance.get_latest_materialization_event(key)
    if entry is None:  # its materializations were wiped
        return "", "It was never built."
    built = datetime.fromtimestamp(entry.timestamp, tz=timezone.utc)
    return entry.run_id, f"It was built last at {built:%Y-%m-%d %H:%M} UTC, which its freshness policy does not allow."
