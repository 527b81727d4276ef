"""Records of check evaluations in the storage of Dagster's event log.

The storage's methods are not public. Dagster's public method returns the last execution of one check, which can be
planned and not run yet.
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
    """Return whether each check passed in its latest evaluation; without checks that were never evaluated."""
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key(keys)
    found = {}
    for key in keys:
        record = latest.get(key)
        # The latest execution is planned and not run. Use the evaluation before it.
        if record is not None and record.status.name not in _EVALUATED:
            statuses = type(record.status)  # not imported, because its module differs between versions of Dagster
            evaluated = {statuses[name] for name in _EVALUATED}
            history = storage.get_asset_check_execution_history(key, limit=1, status=evaluated)
            record = history[0] if history else None
        if record is not None:
            found[key] = record.status.name == _SUCCEEDED
    return found
