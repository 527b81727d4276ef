"""Source freshness with dbt v2, which has no command for it: a query per source, and dbt's file of results.

Format of ``sources.json``: https://docs.getdbt.com/reference/artifacts/sources-json
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.engine_values import NodeError
from floe_orchestrator_dagster.execution.dbt.v2_questions import newest_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.v2_run import V2Session

_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}
# As dbt-core counts the age of a table without rows.
_NEVER = "0001-01-01T00:00:00+00:00"
_NO_FIELD = (
    "It has no loaded_at_field, and dbt v2 does not read the warehouse's metadata here. Set loaded_at_field or "
    "loaded_at_query, or dbt.engine: core."
)


def check_sources(session: V2Session, sources: Mapping[str, Mapping[str, Any]], path: Path) -> Iterator[NodeError]:
    """Ask for the newest row of each source, and write the results as dbt-core does.

    Args:
        session: The invocation.
        sources: The sources in the manifest of this run, by unique id.
        path: The file of the results.

    Yields:
        The error of each source that could not be looked at; it has no result.
    """
    results = []
    asked = {one: node for one, node in sources.items() if node.get("loaded_at_field") or node.get("loaded_at_query")}
    for unique_id in sources.keys() - asked.keys():
        yield NodeError(unique_id, _NO_FIELD)
    for unique_id, newest, now, error in newest_rows(session, asked):
        loaded, looked = _instant(newest or _NEVER), _instant(now)
        if loaded is None or looked is None:
            yield NodeError(unique_id, error or f"{newest!r} is not a timestamp: correct loaded_at_field")
        else:
            results.append(_result(unique_id, loaded, looked, sources[unique_id].get("freshness") or {}))
    path.write_text(json.dumps({"results": results}), encoding="utf-8")


def _result(unique_id: str, loaded: datetime, looked: datetime, criteria: Mapping[str, Any]) -> dict[str, Any]:
    age = (looked - loaded).total_seconds()
    return {
        "unique_id": unique_id,
        "status": _status(age, criteria),
        "max_loaded_at": loaded.isoformat(),
        "snapshotted_at": looked.isoformat(),
        "max_loaded_at_time_ago_in_s": age,
        "criteria": dict(criteria),
        "timing": [],
    }


def _instant(text: str) -> datetime | None:
    """Read a time; as with dbt-core, one without a timezone is in UTC. None for what is not a time."""
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _status(age: float, criteria: Mapping[str, Any]) -> str:
    for name, status in (("error_after", "error"), ("warn_after", "warn")):
        limit = criteria.get(name) or {}
        if limit.get("count") is not None and age > limit["count"] * _SECONDS[limit.get("period") or "day"]:
            return status
    return "pass"
