"""Reader of dbt-core's events: nodes, hooks, batches and tables as typed values.

dbt-core reports each node by a ``NodeStart`` and a ``NodeFinished``. The process that runs dbt (:mod:`core_process`)
sends these two, and all warnings and errors.

Events: https://docs.getdbt.com/reference/events-logging#structured-logging
Batches: https://docs.getdbt.com/docs/build/incremental-microbatch
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.core_process import (
    BATCH_ENDED,
    COMPILED,
    ERROR_PLACE,
    ERROR_TEXT,
    HIDDEN_ERROR,
    NODE_COUNT,
    NODE_FINISHED,
    NODE_RAISED,
    NODE_STARTED,
    NOTHING_MATCHED,
    RELATIONS,
)
from floe_orchestrator_dagster.execution.dbt.core_queries import COLUMNS, FAILED_ROWS, ROWS
from floe_orchestrator_dagster.execution.dbt.diagnosis import plain_message
from floe_orchestrator_dagster.execution.dbt.node_result import (
    DbtWarning,
    FailedHook,
    NodeCount,
    NodeError,
    NodeRelation,
    NodeResult,
    NodeStart,
    NothingMatched,
    TableNames,
    iso_time,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.execution.dbt.node_result import EngineValue


_RAISED = "Exception on worker thread. "
# Messages of a batch's end that contain no reason.
_NOTHING_SAID = ("", "ERROR")
_SHOWN = 20
_FAILED_HOOK = re.compile(r"([\w.-]+) failed, error:\s*")
_TESTS = ("test", "unit_test")
_COUNTING = ("pass", "fail", "warn")


class CoreEvents:
    """The events of one invocation, read in their order.

    The batches of a microbatch model have events with the model's id, between the model's start and end. They are not
    reported separately.
    """

    def __init__(self) -> None:
        """Start without nodes."""
        self._batches = Batches()
        self._running: dict[str, int] = {}
        self._hook_files: dict[str, str] = {}
        self._hidden_errors: dict[str, str] = {}

    def read(self, event: Mapping[str, Any]) -> EngineValue | None:
        """Convert an event, in the format of ``dbt --log-format json``; None for an event that no step needs."""
        info, data = _mapping(event.get("info")), _mapping(event.get("data"))
        name, node = info.get("name"), _mapping(data.get("node_info"))
        self._batches.add(event)
        if name == NODE_STARTED:
            return self._start(_node_start(info, node))
        if name == NODE_FINISHED:
            return self._end(event, _node_result(info, node, data))
        if node.get("resource_type") == "operation" and name in (ERROR_PLACE, ERROR_TEXT):
            return self._hook(str(name), node, data)
        if name == NODE_RAISED and data.get(HIDDEN_ERROR) and self._running.get(str(node.get("unique_id"))) == 1:
            return self._hidden_error(str(node["unique_id"]), _unstyled(data[HIDDEN_ERROR]))
        return _news(str(name), data) or _message(info, node)

    def _start(self, start: NodeStart) -> NodeStart | None:
        if not start.unique_id:
            return None
        self._running[start.unique_id] = self._running.get(start.unique_id, 0) + 1
        return start if self._running[start.unique_id] == 1 else None

    def _end(self, event: Mapping[str, Any], result: NodeResult) -> NodeResult | None:
        if not result.unique_id:
            return None
        others = self._running.pop(result.unique_id, 1) - 1
        if others > 0:
            self._running[result.unique_id] = others
            self._batches.end(event, result.message)
            return None
        if result.has_failed:
            message = self._hidden_errors.pop(result.unique_id, result.message)
            return replace(result, message=self._batches.explain(result.unique_id, message))
        return result

    def _hidden_error(self, unique_id: str, message: str) -> NodeError:
        self._hidden_errors[unique_id] = message
        return NodeError(unique_id, message)

    def _hook(self, name: str, node: Mapping[str, Any], data: Mapping[str, Any]) -> FailedHook | None:
        unique_id = str(node.get("unique_id"))
        if name == ERROR_PLACE:
            self._hook_files[unique_id] = str(data.get("path") or "").removeprefix("./")
            return None
        hook, message = str(node.get("node_name")), _unstyled(data.get("msg"))
        named = _FAILED_HOOK.match(message)
        if named:
            hook, message = named[1], message[named.end() :]
        return FailedHook(hook, self._hook_files.get(unique_id, ""), message)


def _news(name: str, data: Mapping[str, Any]) -> NodeCount | TableNames | NothingMatched | None:
    if name == NODE_COUNT:
        return NodeCount(int(_number(data.get("node_count"))))
    if name == RELATIONS:
        return TableNames(_mapping(data.get("relations")))
    return NothingMatched(str(data.get("spec_raw"))) if name == NOTHING_MATCHED else None


def _message(info: Mapping[str, Any], node: Mapping[str, Any]) -> DbtWarning | NodeError | None:
    message = _unstyled(info.get("msg"))
    if info.get("level") == "warn":
        return DbtWarning(message)
    is_error = info.get("level") == "error" and node.get("unique_id")
    return NodeError(str(node["unique_id"]), message) if is_error else None


def _node_start(info: Mapping[str, Any], node: Mapping[str, Any]) -> NodeStart:
    unique_id = str(node.get("unique_id") or "")
    return NodeStart(
        unique_id=unique_id,
        resource_type=str(node.get("resource_type") or unique_id.partition(".")[0]),
        materialized=str(node.get("materialized") or ""),
        time=iso_time(node.get("node_started_at"), info.get("ts")),
        invocation_id=str(info.get("invocation_id") or ""),
        relation=_relation(node),
    )


def _node_result(info: Mapping[str, Any], node: Mapping[str, Any], data: Mapping[str, Any]) -> NodeResult:
    start, result, columns = _node_start(info, node), _mapping(data.get("run_result")), data.get(COLUMNS)
    rows = data.get(ROWS)
    status = str(result.get("status") or "").lower()
    counts = start.resource_type in _TESTS and status in _COUNTING
    return NodeResult(
        unique_id=start.unique_id,
        name=str(node.get("node_name") or start.unique_id.rpartition(".")[2]),
        resource_type=start.resource_type,
        materialized=start.materialized,
        status=status,
        message=_unstyled(result.get("message")),
        seconds=_number(result.get("execution_time")),
        started=iso_time(node.get("node_started_at")),
        finished=iso_time(node.get("node_finished_at"), info.get("ts")),
        failed_rows=int(_number(result.get("num_failures"))) if counts else None,
        adapter_response=_mapping(result.get("adapter_response")),
        columns={str(name): str(data_type) for name, data_type in columns} if columns is not None else None,
        row_count=rows if isinstance(rows, int) else None,
        rows_found=tuple(data.get(FAILED_ROWS) or ()),
        relation=start.relation,
        invocation_id=start.invocation_id,
        compiled_code=data.get(COMPILED),
        is_error=info.get("level") == "error",
    )


def _relation(node: Mapping[str, Any]) -> NodeRelation:
    found = _mapping(node.get("node_relation"))
    parts = (found.get(name) for name in ("database", "schema", "alias", "relation_name"))
    return NodeRelation(*(str(part or "") for part in parts))


def _unstyled(text: object) -> str:
    return plain_message(str(text or ""))


def _number(value: object) -> float:
    """Parse a number, which dbt can write as a string; 0 for other values."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) else 0.0
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


@dataclass
class Batches:
    """The batches of an invocation's models so far.

    Attributes:
        failed: Failed batches by the model's unique id: the reason by batch (``batch 2026-01-02 of main.orders``).
        skipped: Number of skipped batches, by the model's unique id.
    """

    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    _raised: dict[str, str] = field(default_factory=dict)
    _last: dict[str, str] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Add an event. The events of a batch follow each other in its thread."""
        name = (event.get("info") or {}).get("name")
        if name not in (NODE_RAISED, BATCH_ENDED):
            return
        data, thread = event["data"], str(event["info"].get("thread"))
        if name == NODE_RAISED:
            self._raised[thread] = _unstyled(data.get("exc")).removeprefix(_RAISED).strip()
        else:
            unique_id, status = data["node_info"]["unique_id"], str(data["status"]).lower()
            reason = self._raised.pop(thread, "")
            if status == "error":
                self._last[thread] = str(data["description"])
                self.failed.setdefault(unique_id, {})[self._last[thread]] = reason
            elif status == "skipped":
                self.skipped[unique_id] = self.skipped.get(unique_id, 0) + 1

    def end(self, event: Mapping[str, Any], message: str) -> None:
        """Add the ``NodeFinished`` of a batch. If dbt could not compile the batch, only this event has the reason."""
        unique_id = event["data"]["node_info"]["unique_id"]
        batch = self._last.pop(str(event["info"].get("thread")), "")
        reasons = self.failed.get(unique_id, {})
        if batch in reasons and not reasons[batch] and message not in _NOTHING_SAID:
            reasons[batch] = message

    def explain(self, unique_id: str, message: str) -> str:
        """Return a model's message with its failed batches and their reasons."""
        failed = self.failed.get(unique_id, {})
        lines = [f"{batch}: {reason or 'failed'}" for batch, reason in list(failed.items())[:_SHOWN]]
        if len(failed) > _SHOWN:
            lines.append(f"and {len(failed) - _SHOWN} more batches")
        if self.skipped.get(unique_id):
            lines.append(f"{self.skipped[unique_id]} batches skipped because of these")
        return "\n".join([message, *lines])
