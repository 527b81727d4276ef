"""Values that every dbt engine yields while dbt runs: starts and results of nodes, hooks, counts, messages.

Statuses: https://docs.getdbt.com/reference/artifacts/run-results-json
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Ending = Literal["succeeded", "failed", "skipped"]

# All known statuses of dbt. For other statuses, the level of the event is used.
_ENDINGS: dict[str, Ending] = {
    "success": "succeeded",
    "pass": "succeeded",
    "warn": "succeeded",
    "no-op": "succeeded",
    "reused": "succeeded",
    "error": "failed",
    "fail": "failed",
    "runtime error": "failed",
    "partial success": "failed",
    "skipped": "skipped",
}
_PASSED = ("success", "pass", "reused")
_TESTS = ("test", "unit_test")
_RELATIONS = ("model", "seed", "snapshot")

_TIME = re.compile(r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)(?P<zone>Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True)
class NodeRelation:
    """The actual table or view of a node on the current target.

    Attributes:
        database: Its database or catalog; empty for adapters without one.
        schema: Its schema.
        alias: Its name in the schema.
        name: The quoted name in SQL; empty for nodes without a relation.
    """

    database: str = ""
    schema: str = ""
    alias: str = ""
    name: str = ""


NO_RELATION = NodeRelation()


@dataclass(frozen=True)
class NodeStart:
    """The start of a node.

    Attributes:
        unique_id: dbt's unique id.
        resource_type: ``model``, ``seed``, ``snapshot``, ``test``, ``unit_test``, …
        materialized: ``table``, ``view``, ``ephemeral``, …; empty when unknown.
        time: ISO 8601 with a timezone; empty when unknown.
        invocation_id: dbt's id of the invocation.
        relation: The node's table.
    """

    unique_id: str
    resource_type: str
    materialized: str = ""
    time: str = ""
    invocation_id: str = ""
    relation: NodeRelation = NO_RELATION


@dataclass(frozen=True)
class Freshness:
    """The age of a source's data.

    Attributes:
        max_loaded_at: Time of the newest row, in dbt's format.
        snapshotted_at: Time of the check, in dbt's format.
        age_seconds: Seconds between these times.
        criteria: dbt's ``criteria``: ``warn_after``, ``error_after`` and ``filter``.
    """

    max_loaded_at: str
    snapshotted_at: str
    age_seconds: float
    criteria: Mapping[str, Any]


@dataclass(frozen=True)
class NodeResult:
    """The result of a node.

    Attributes:
        unique_id: dbt's unique id.
        name: The node's name.
        resource_type: ``model``, ``seed``, ``snapshot``, ``test``, ``unit_test``, ``source``, …
        materialized: ``table``, ``view``, ``ephemeral``, …; empty when unknown.
        status: dbt's status in lower case, such as ``success``, ``error``, ``skipped``, ``pass``, ``fail``, ``warn``.
        message: dbt's message without colours; empty when it only repeats the status.
        seconds: Duration of the node.
        started: ISO 8601 with a timezone; empty when unknown.
        finished: As ``started``.
        failed_rows: Number of rows that a test found; None when unknown.
        rows_found: Some of the rows that a test found, as text by column; empty unless they are configured to be shown.
        adapter_response: The adapter's response, such as ``{"rows_affected": 600, "query_id": …}``.
        columns: All columns of the built relation, the type by column name; None when they were not queried.
        row_count: Number of rows of the built table; None when it was not queried.
        relation: The built relation; for a test, the table in which dbt stored the rows that the test found.
        invocation_id: dbt's id of the invocation.
        compiled_code: The compiled query; None when unknown.
        freshness: Age of a source's data; None for other nodes and when unknown.
        is_error: Whether the event has the level of an error. Only nodes with an unknown status are judged by it.
        skipped_because_of: Unique id of the failed node that caused dbt to skip this one; empty when unknown.
    """

    unique_id: str
    name: str
    resource_type: str
    materialized: str
    status: str
    message: str = ""
    seconds: float = 0.0
    started: str = ""
    finished: str = ""
    failed_rows: int | None = None
    rows_found: Sequence[Mapping[str, str]] = ()
    adapter_response: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    columns: Mapping[str, str] | None = None
    row_count: int | None = None
    relation: NodeRelation = NO_RELATION
    invocation_id: str = ""
    compiled_code: str | None = None
    freshness: Freshness | None = None
    is_error: bool = False
    skipped_because_of: str = ""

    @property
    def start(self) -> NodeStart:
        """The start of this node, for nodes whose start dbt did not report."""
        time = self.started or self.finished
        return NodeStart(self.unique_id, self.resource_type, self.materialized, time, self.invocation_id, self.relation)

    @property
    def start_timestamp(self) -> float | None:
        """Seconds since 1970 until the start; None when unknown."""
        try:
            return datetime.fromisoformat(self.started.replace("Z", "+00:00")).timestamp()
        except ValueError:
            return None

    @property
    def ending(self) -> Ending:
        """The kind of the node's end."""
        return _ENDINGS.get(self.status, "failed" if self.is_error else "succeeded")

    @property
    def is_test(self) -> bool:
        """Whether it is a data test or unit test."""
        return self.resource_type in _TESTS

    @property
    def is_relation(self) -> bool:
        """Whether it is a table, view, seed or snapshot."""
        return self.resource_type in _RELATIONS and self.materialized != "ephemeral"

    @property
    def is_counted(self) -> bool:
        """Whether dbt includes the node in its number of nodes."""
        return self.materialized != "ephemeral" and self.resource_type != "exposure"

    @property
    def has_failed(self) -> bool:
        """Whether the node failed. A test that only warns has not failed."""
        return self.ending == "failed"

    @property
    def was_skipped(self) -> bool:
        """Whether dbt skipped the node because a node upstream of it failed."""
        return self.ending == "skipped"

    @property
    def was_built(self) -> bool:
        """Whether it is a table, view, seed or snapshot, and was built."""
        return self.is_relation and self.ending == "succeeded"

    @property
    def passed(self) -> bool:
        """Whether a test passed without a failure or warning."""
        return self.status in _PASSED

    @property
    def rows_affected(self) -> int | None:
        """Number of written rows; None when the adapter does not report it."""
        found = self.adapter_response.get("rows_affected")
        try:
            # dbt's events have numbers as strings. Adapters that do not count rows report -1.
            rows = -1 if found is None or isinstance(found, bool) else int(float(found))
        except (OverflowError, TypeError, ValueError):
            return None
        return rows if rows >= 0 else None

    @property
    def query_id(self) -> str | None:
        """The warehouse's id of the query; None when the adapter does not report it."""
        response = self.adapter_response
        if response.get("job_id"):  # BigQuery's, with its project and location if dbt reports both
            place = ":".join(str(response[name]) for name in ("project_id", "location") if response.get(name))
            return f"{place}.{response['job_id']}" if place.count(":") else str(response["job_id"])
        query_id = response.get("query_id")
        return str(query_id) if query_id and str(query_id).lower() != "n/a" else None


@dataclass(frozen=True)
class FailedHook:
    """A failed on-run hook. dbt reports hooks with other events than nodes.

    Attributes:
        name: dbt's name of the hook: package, kind and index, such as ``shop.on-run-end.0``.
        file: The file with the hook.
        message: dbt's message without colours.
    """

    name: str
    file: str
    message: str


@dataclass(frozen=True)
class NodeCount:
    """Number of nodes in the invocation.

    Attributes:
        count: The number.
        has_all: Whether ephemeral models and unit tests are counted. dbt v2 counts them, dbt-core does not.
    """

    count: int
    has_all: bool = False


@dataclass(frozen=True)
class TableNames:
    """Names of all tables in this run's environment: fields of a manifest's node, by unique id."""

    relations: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class BuiltTables:
    """Columns and numbers of rows of built tables, from an engine that queries them after dbt has ended.

    Attributes:
        columns: Type by name of all columns, by the table's unique id.
        rows: Number of rows, by the table's unique id.
    """

    columns: Mapping[str, Mapping[str, str]]
    rows: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class NothingMatched:
    """A selection, or several separated by spaces, that matches no node."""

    selection: str


@dataclass(frozen=True)
class DbtWarning:
    """A warning in dbt's log."""

    message: str


@dataclass(frozen=True)
class NodeError:
    """An error of a node in dbt's log."""

    unique_id: str
    message: str


EngineValue = (
    NodeStart | NodeResult | FailedHook | NodeCount | TableNames | BuiltTables | NothingMatched | DbtWarning | NodeError
)


def read_source_result(entry: Mapping[str, Any]) -> NodeResult | None:
    """Read an entry of dbt's ``sources.json``; None for one without a source."""
    unique_id = str(entry.get("unique_id") or "")
    if not unique_id:
        return None
    steps = entry.get("timing")
    executed = next((step for step in _mappings(steps) if step.get("name") == "execute"), {})
    snapshotted_at = entry.get("snapshotted_at")
    age, criteria = entry.get("max_loaded_at_time_ago_in_s"), entry.get("criteria")
    freshness = Freshness(
        max_loaded_at=str(entry.get("max_loaded_at") or ""),
        snapshotted_at=str(snapshotted_at or ""),
        age_seconds=float(age) if isinstance(age, (int, float)) and not isinstance(age, bool) else 0.0,
        criteria=criteria if isinstance(criteria, dict) else {},
    )
    status = str(entry.get("status") or "").lower()
    return NodeResult(
        unique_id=unique_id,
        name=unique_id.rpartition(".")[2],
        resource_type="source",
        materialized="",
        status=status,
        message=str(entry.get("error") or (_staleness(freshness) if status == "error" else "")),
        started=iso_time(executed.get("started_at"), snapshotted_at),
        finished=iso_time(executed.get("completed_at"), snapshotted_at),
        freshness=freshness if age is not None else None,
        is_error=True,
    )


def iso_time(*times: object) -> str:
    """Return the first valid time in ISO 8601; empty without one. Times without a timezone are UTC."""
    found = next((match for time in times if (match := _TIME.fullmatch(str(time or "")))), None)
    return f"{found['time']}{found['zone'] or 'Z'}" if found else ""


def _staleness(freshness: Freshness) -> str:
    """Describe the age of a source's newest row that exceeds the limit."""
    limit = freshness.criteria.get("error_after")
    if not isinstance(limit, dict) or not limit.get("count"):
        return ""
    newest = freshness.max_loaded_at or None
    return f"the newest row is of {newest}, more than {limit['count']} {limit.get('period')} before the check"


def _mappings(values: object) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
