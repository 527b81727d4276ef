"""What became of each node of a dbt invocation.

Event shapes: https://docs.getdbt.com/reference/events-logging#structured-logging
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from floe_orchestrator_dagster.execution.dbt.batches import Batches
from floe_orchestrator_dagster.execution.dbt.causes import Causes
from floe_orchestrator_dagster.execution.dbt.core_process import (
    COMPILED,
    ERROR_PLACE,
    ERROR_TEXT,
    NODE_FINISHED,
    NODE_STARTED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TESTS = ("test", "unit_test")
_FAILED = {"error", "fail", "partial success", "runtime error"}
_SKIPPED = {"skipped"}
_FAILED_HOOK = re.compile(r"([\w.-]+) failed, error:\s*")
_RELATIONS = ("model", "seed", "snapshot")


@dataclass(frozen=True)
class NodeResult:
    """How one node ended.

    Attributes:
        unique_id: dbt's unique id.
        name: The node's name.
        resource_type: ``model``, ``seed``, ``snapshot``, ``test``, ``unit_test``, …
        materialized: ``table``, ``view``, ``ephemeral``, …
        status: dbt's status in lower case, such as ``success``, ``error``, ``skipped``, ``pass``, ``fail``, ``warn``.
        message: dbt's message without colours; empty when it says no more than the status.
        seconds: How long it took.
        failed_rows: Of a test, the rows that it found; None where dbt does not count.
        rows_affected: Rows that were written, where the adapter says.
        columns: Names and types of the table's columns; None when they were not asked for.
        relation: The table as SQL writes it: what was built, or where a test stored the rows it found. May be empty.
        invocation_id: dbt's id of the invocation.
        query: The compiled query of what dbt keeps no file of, a snapshot.
    """

    unique_id: str
    name: str
    resource_type: str
    materialized: str
    status: str
    message: str
    seconds: float
    failed_rows: int | None
    rows_affected: int | None
    columns: Sequence[Sequence[str]] | None
    relation: str
    invocation_id: str
    query: str | None = None

    @property
    def is_test(self) -> bool:
        """Whether it is a data test or unit test."""
        return self.resource_type in _TESTS

    @property
    def is_counted(self) -> bool:
        """Whether dbt counts it among the nodes that it is going to run."""
        return self.materialized != "ephemeral" and self.resource_type != "exposure"

    @property
    def has_failed(self) -> bool:
        """Whether dbt calls it an error; a test that only warns has not failed."""
        return self.status in _FAILED

    @property
    def was_skipped(self) -> bool:
        """Whether dbt left it out because something upstream of it failed."""
        return self.status in _SKIPPED

    @property
    def was_built(self) -> bool:
        """Whether it is a table, view, seed or snapshot that is there now."""
        is_relation = self.resource_type in _RELATIONS and self.materialized != "ephemeral"
        return is_relation and not self.has_failed and not self.was_skipped


def node_result(event: Mapping[str, Any]) -> NodeResult | None:
    """Read the end of a node from dbt's event; None for other events."""
    if event["info"]["name"] != NODE_FINISHED:
        return None
    data = event["data"]
    node, result = data["node_info"], data["run_result"]
    resource_type, status = node["resource_type"], str(result["status"]).lower()
    counts = resource_type in _TESTS and status in ("pass", "fail", "warn")
    return NodeResult(
        unique_id=node["unique_id"],
        name=node["node_name"],
        resource_type=resource_type,
        materialized=node["materialized"],
        status=status,
        message=click.unstyle(str(result.get("message") or "")).strip(),
        seconds=float(result.get("execution_time") or 0),
        failed_rows=int(result.get("num_failures") or 0) if counts else None,
        rows_affected=_rows_affected(result.get("adapter_response") or {}),
        columns=data.get("columns"),
        relation=(node.get("node_relation") or {}).get("relation_name") or "",
        invocation_id=event["info"]["invocation_id"],
        query=data.get(COMPILED),
    )


def _rows_affected(response: Mapping[str, Any]) -> int | None:
    """Adapters that cannot count leave it out, or say -1."""
    try:
        rows = int(float(response["rows_affected"]))
    except (KeyError, TypeError, ValueError):
        return None
    return rows if rows >= 0 else None


@dataclass(frozen=True)
class FailedHook:
    """An on-run hook that failed; dbt does not report hooks as it reports nodes.

    Attributes:
        name: dbt's name of it: package, kind, and row from 0, such as ``shop.on-run-end.0``.
        file: The file that declares it.
        message: dbt's message without colours.
    """

    name: str
    file: str
    message: str


@dataclass
class Results:
    """The results of an invocation so far.

    Attributes:
        parents: Unique ids of what each node reads directly.
        expected: How many nodes the invocation has, once it says so.
        finished: Results by unique id, in the order of their end.
        running: Nodes that have started and not ended, by unique id; of a microbatch model it counts the batches too.
        failed_hooks: The on-run hooks that failed; dbt names them when all else is done.
        batches: What became of the batches of microbatch models.
    """

    parents: Mapping[str, Sequence[str]]
    expected: int | None = None
    finished: dict[str, NodeResult] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    failed_hooks: list[FailedHook] = field(default_factory=list)
    batches: Batches = field(default_factory=Batches)
    _hook_files: dict[str, str] = field(default_factory=dict)
    _causes: Causes = field(init=False)
    _counted: int = 0

    def __post_init__(self) -> None:
        """Start without failures."""
        self._causes = Causes(self.parents)

    def add(self, event: Mapping[str, Any]) -> NodeResult | None:
        """Take an event; returns the result when it is the end of a node."""
        if event["info"]["name"] == NODE_STARTED:
            unique_id = event["data"]["node_info"]["unique_id"]
            self.running[unique_id] = self.running.get(unique_id, 0) + 1
        self._add_hook(event)
        self.batches.add(event)
        result = node_result(event)
        if result is None:
            return None
        # The batches of a microbatch model start and end under its own id, between its own start and end.
        others = self.running.pop(result.unique_id, 1) - 1
        if others > 0:
            self.running[result.unique_id] = others
            self.batches.end(event, result.message)
            return None
        if result.has_failed:
            result = replace(result, message=self.batches.described(result.unique_id, result.message))
        self.finished[result.unique_id] = result
        self._counted += result.is_counted
        if result.has_failed:
            self._causes.add(result)
        return result

    def _add_hook(self, event: Mapping[str, Any]) -> None:
        name, data = event["info"]["name"], event["data"]
        node = data.get("node_info") or {}
        if node.get("resource_type") != "operation":
            return
        if name == ERROR_PLACE:
            self._hook_files[node["unique_id"]] = str(data["path"]).removeprefix("./")
        elif name == ERROR_TEXT:
            hook, message = node["node_name"], click.unstyle(str(data["msg"])).strip()
            named = _FAILED_HOOK.match(message)
            if named:
                hook, message = named[1], message[named.end() :]
            self.failed_hooks.append(FailedHook(hook, self._hook_files.get(node["unique_id"], ""), message))

    @property
    def running_names(self) -> list[str]:
        """Names of the nodes that have started and not ended."""
        return [unique_id.split(".")[2] for unique_id in self.running]

    @property
    def failed(self) -> list[NodeResult]:
        """The nodes that failed."""
        return [result for result in self.finished.values() if result.has_failed]

    @property
    def skipped(self) -> list[NodeResult]:
        """The nodes that dbt skipped."""
        return [result for result in self.finished.values() if result.was_skipped]

    def causes(self, result: NodeResult) -> Sequence[NodeResult]:
        """Find the failures that made dbt skip a node: nodes upstream of it, and tests that it waits for."""
        return self._causes.of(result.unique_id)

    def line(self, result: NodeResult) -> str:
        """Describe a node's end in one line, such as ``17/48 success model orders, 0.31 s``."""
        count = f"{self._counted}/{self.expected} " if self.expected else f"{self._counted} "
        kind = result.resource_type.replace("_", " ")
        line = f"{count if result.is_counted else ''}{result.status} {kind} {result.name}"
        if result.was_skipped:
            causes = [failed.name for failed in self.causes(result)]
            return f"{line}, because of {', '.join(causes)}" if causes else line
        rows = f", {result.rows_affected} rows" if result.rows_affected is not None else ""
        return f"{line}{rows}, {result.seconds:.2f} s"

    def summary(self) -> str:
        """Count the ends: ``3 failed, 5 skipped because of them, 41 succeeded``."""
        failed, skipped, hooks = len(self.failed), len(self.skipped), len(self.failed_hooks)
        parts = [f"{hooks} on-run hook{'s' if hooks > 1 else ''} failed"] if hooks else []
        if failed or not hooks:
            parts.append(f"{failed} failed")
        if skipped:
            parts.append(f"{skipped} skipped because of {'it' if failed == 1 else 'them'}")
        parts.append(f"{len(self.finished) - failed - skipped} succeeded")
        return ", ".join(parts)
