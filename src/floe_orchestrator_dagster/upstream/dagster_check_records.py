"""Records of check evaluations, which Dagster keeps in the event log's storage.

The storage's methods are not public. Dagster's public records are those of one check at a time and of its last
execution only, which may have been planned and not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagster as dg

# Names of the statuses of checks that have run.
_SUCCEEDED = "SUCCEEDED"
_EVALUATED = (_SUCCEEDED, "FAILED")


def latest_evaluations(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> dict[dg.AssetCheckKey, bool]:
    """Return of each check that was ever evaluated whether it passed the last time."""
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key(keys)
    found = {}
    for key in keys:
        record = latest.get(key)
        # Planned in this run and not run (yet): the evaluation before counts.
        if record is not None and record.status.name not in _EVALUATED:
            statuses = type(record.status)  # not imported, for Dagster moves it
            evaluated = {statuses[name] for name in _EVALUATED}
            history = storage.get_asset_check_execution_history(key, limit=1, status=evaluated)
            record = history[0] if history else None
        if record is not None:
            found[key] = record.status.name == _SUCCEEDED
    return found
