"""dbt's structured log → the start or the end of a node.

Event shapes: https://docs.getdbt.com/reference/events-logging#structured-logging
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.product.manifest import Manifest

State = Literal["START", "COMPLETE", "FAIL", "ABORT"]

_STARTS = frozenset({"NodeStart", "LogStartLine"})
_ENDS = frozenset(
    {
        "LogModelResult",
        "LogSeedResult",
        "LogSnapshotResult",
        "LogTestResult",
        "LogFreshnessResult",
        "LogNodeResult",
        "LogNodeNoOpResult",
        "NodeFinished",
    }
)
_SKIPS = frozenset({"SkippingDetails", "LogSkipBecauseError"})
_STATES: dict[str, State] = {
    "success": "COMPLETE",
    "pass": "COMPLETE",
    "warn": "COMPLETE",
    "no-op": "COMPLETE",
    "reused": "COMPLETE",
    "error": "FAIL",
    "fail": "FAIL",
    "runtime error": "FAIL",
    "partial success": "FAIL",
    "skipped": "ABORT",
}
_JOBS = ("model", "seed", "snapshot", "test", "unit_test", "source")
_TIME = re.compile(r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)(?P<zone>Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True)
class NodeSignal:
    """What one log event says of one node.

    Attributes:
        unique_id: dbt's.
        state: START, or how the node ended.
        status: dbt's word for it, in lower case.
        time: When, as ISO 8601 with a timezone; empty when the event does not say.
        invocation_id: The dbt invocation.
        relation: Where the node goes: ``database``, ``schema``, ``alias`` and ``relation_name``.
        result: dbt's ``run_result``; empty in all events but ``NodeFinished``.
        failures: Rows that a test found; None when the event does not say.
        message: The event's own text.
    """

    unique_id: str
    state: State
    status: str
    time: str
    invocation_id: str
    relation: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    result: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    failures: int | None = None
    message: str = ""


def read_signal(event: Mapping[str, Any], manifest: Manifest) -> NodeSignal | None:
    """Read a log event; None when it neither starts nor ends a model, seed, snapshot, test or source.

    Ephemeral models are no jobs of their own.
    """
    info, data = _mapping(event, "info"), _mapping(event, "data")
    name, node = str(info.get("name")), _mapping(data, "node_info")
    if name not in _STARTS | _ENDS | _SKIPS:
        return None
    unique_id = str(node.get("unique_id") or _skipped_node(data, manifest))
    if not _is_job(unique_id, node, manifest):
        return None
    status = "started" if name in _STARTS else "skipped" if name in _SKIPS else _status(node, data)
    failures = data.get("num_failures")
    time = node.get("node_started_at") if name in _STARTS else node.get("node_finished_at")
    return NodeSignal(
        unique_id=unique_id,
        state="START" if name in _STARTS else state_of(status, is_error=info.get("level") == "error"),
        status=status,
        time=_first_time(time, info.get("ts")),
        invocation_id=str(info.get("invocation_id") or ""),
        relation=_mapping(node, "node_relation"),
        result=_mapping(data, "run_result"),
        failures=failures if isinstance(failures, int) else None,
        message=str(info.get("msg") or ""),
    )


def freshness_times(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return when an entry of ``sources.json`` started and ended; empty when it does not say."""
    timings = result.get("timing") if isinstance(result.get("timing"), list) else ()
    steps = [timing for timing in timings or () if isinstance(timing, dict)]
    executed = next((step for step in steps if step.get("name") == "execute"), {})
    start = _first_time(executed.get("started_at"), result.get("snapshotted_at"))
    return start, _first_time(executed.get("completed_at"), result.get("snapshotted_at"))


def state_of(status: str, *, is_error: bool = False) -> State:
    """Say how a node with this dbt status ended; a status that is not known here counts by the level of its event."""
    return _STATES.get(status.lower(), "FAIL" if is_error else "COMPLETE")


def _status(node: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Read the node's own status; the event's is the adapter's message for models (``SELECT 5``)."""
    own = str(node.get("node_status") or "").lower()
    reported = str(data.get("status") or _mapping(data, "run_result").get("status") or "").lower()
    return own if own in _STATES else reported


def _is_job(unique_id: str, node: Mapping[str, Any], manifest: Manifest) -> bool:
    known = manifest.content["nodes"].get(unique_id, {})
    materialized = node.get("materialized") or (known.get("config") or {}).get("materialized")
    return unique_id.split(".", maxsplit=1)[0] in _JOBS and materialized != "ephemeral"


def _skipped_node(data: Mapping[str, Any], manifest: Manifest) -> str:
    """Find the node of dbt's one event without ``node_info``, which has schema and table."""
    place = (data.get("schema"), data.get("relation"))
    nodes = manifest.content["nodes"].items() if place[1] else ()
    return next((unique_id for unique_id, node in nodes if (node.get("schema"), node.get("alias")) == place), "")


def _first_time(*times: object) -> str:
    """Take the first that is a time; those of nodes are UTC without saying so. Empty when none is."""
    found = next((match for time in times if (match := _TIME.fullmatch(str(time or "")))), None)
    return f"{found['time']}{found['zone'] or 'Z'}" if found else ""


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}
