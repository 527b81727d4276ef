"""What is known of a dbt node once it has ended, beyond dbt's log event."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class NodeOutcome:
    """The enrichment of a node's last event; each part may be missing.

    Attributes:
        compiled_code: The SQL that ran, without what the materialization puts around it.
        columns: All columns of the relation after the run, in their order, with the warehouse's types.
        adapter_response: dbt's, such as ``{"rows_affected": 600, "query_id": …}``.
        message: dbt's message, why it failed for one.
        failures: Rows that a test found; for source freshness, the age of the data in seconds.
    """

    compiled_code: str | None = None
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    adapter_response: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    message: str | None = None
    failures: float | None = None

    @property
    def rows(self) -> int | None:
        """Rows that were written; None when the adapter does not say."""
        found = self.adapter_response.get("rows_affected")
        try:
            # dbt's events have all values as text.
            rows = -1 if found is None or isinstance(found, bool) else int(float(found))
        except (TypeError, ValueError):
            return None
        return rows if rows >= 0 else None

    @property
    def query_id(self) -> str | None:
        """The warehouse's id of the query; None when the adapter does not say."""
        response = self.adapter_response
        if response.get("job_id"):
            place = ":".join(str(response[name]) for name in ("project_id", "location") if response.get(name))
            return f"{place}.{response['job_id']}" if place.count(":") else str(response["job_id"])
        query_id = response.get("query_id")
        return str(query_id) if query_id and str(query_id).lower() != "n/a" else None


def outcome_of(result: Mapping[str, Any], columns: Mapping[str, str] = MappingProxyType({})) -> NodeOutcome:
    """Read an entry of ``run_results.json``, or the ``run_result`` of dbt's ``NodeFinished`` event."""
    response = result.get("adapter_response")
    return NodeOutcome(
        compiled_code=result.get("compiled_code") or None,
        columns=columns,
        adapter_response=response if isinstance(response, dict) else {},
        message=str(result["message"]) if result.get("message") else None,
        failures=_number(result.get("failures", result.get("num_failures"))),
    )


def freshness_outcome(result: Mapping[str, Any]) -> NodeOutcome:
    """Read an entry of ``sources.json``."""
    error = result.get("error") or _staleness(result)
    return NodeOutcome(
        failures=_number(result.get("max_loaded_at_time_ago_in_s")), message=str(error) if error else None
    )


def _staleness(result: Mapping[str, Any]) -> str | None:
    """Say how old the newest row is, of a source that is older than it may be."""
    limit = (result.get("criteria") or {}).get("error_after") or {}
    if result.get("status") != "error" or not limit.get("count"):
        return None
    newest = result.get("max_loaded_at")
    return f"the newest row is of {newest}, more than {limit['count']} {limit['period']} before it was looked at"


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
