"""States of freshness policies, as Dagster's daemon records them in the event log.

Dagster has no documented method for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagster as dg

# Storages of databases limit the number of parameters of a query.
_KEYS_OF_QUERY = 500


@dataclass(frozen=True)
class FreshnessState:
    """The state of an asset's freshness policy.

    Attributes:
        name: ``PASS``, ``WARN``, ``FAIL``, ``UNKNOWN`` (never materialized) or ``NOT_APPLICABLE``.
        since: Time at which the daemon noticed it, in seconds since 1970.
    """

    name: str
    since: float


def freshness_states(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> dict[dg.AssetKey, FreshnessState]:
    """Return the states of assets that the daemon has evaluated; empty for storages that do not return them."""
    found: dict[dg.AssetKey, FreshnessState] = {}
    for first in range(0, len(keys), _KEYS_OF_QUERY):
        try:
            records = instance.get_freshness_state_records(keys[first : first + _KEYS_OF_QUERY])
        except NotImplementedError:  # the storage of Dagster+
            return {}
        for key, record in records.items():
            found[key] = FreshnessState(record.freshness_state.value, record.updated_at.timestamp())
    return found
