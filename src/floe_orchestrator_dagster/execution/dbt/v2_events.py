"""Reader of dbt v2's events: nodes, hooks and messages as typed values.

dbt v2 writes OpenTelemetry spans and log records with typed attributes, one line of JSON each
(https://docs.getdbt.com/reference/events-logging). The span ``NodeProcessed`` has the start and the end of a node. A
failed test has the outcome ``SUCCESS`` and its result in ``node_test_detail``. The text of an error is in a log record
before the end of its node.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.diagnosis import plain_message
from floe_orchestrator_dagster.execution.dbt.node_result import (
    NO_RELATION,
    DbtWarning,
    FailedHook,
    NodeCount,
    NodeError,
    NodeRelation,
    NodeResult,
    NodeStart,
    NothingMatched,
)
from floe_orchestrator_dagster.execution.dbt.questions import ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from floe_orchestrator_dagster.execution.dbt.node_result import EngineValue

# Only lines with these names are parsed. dbt writes millions of others, most of them about queries.
_NAMES = (
    b'.NodeProcessed"',
    b'.LogMessage"',
    b'.CompiledCode"',
    b'.HookProcessed"',
    b'.PhaseExecuted"',
    b'.Invocation"',
    b'"floe-answer ',
    b'"FloeDbt',
)
_TESTS = ("test", "unit_test")
_TEST_STATUSES = {"PASSED": "pass", "WARNED": "warn", "FAILED": "fail"}
_OUTCOMES = {"SUCCESS": "success", "ERROR": "error"}
_SUCCESSES = ("success", "pass", "warn", "no-op", "reused")
_SKIPPED = {"NO_OP": "no-op", "CACHED": "reused", "REUSED": "reused"}
_QUOTES = {"bigquery": "`", "databricks": "`", "spark": "`", "snowflake": ""}
_BACKTRACE = re.compile(r"\n\s*0: .*", re.DOTALL)
_BROKEN_TEST = re.compile(
    r"Error materializing test [^\n]*\n\s*(?P<error>.*?)(\. Treating as failing test\.)?", re.DOTALL
)
_COMPILING = re.compile(r"^Failed to render SQL (invalid operation: )?(Compilation Error for \S+ from \S+: )?")
_UNMATCHED = re.compile(r"'(.*)'", re.DOTALL)
_NOT_REPORTED = ("NoLongerSupportedOption", "NoNodesSelected")
_PARSING = ("EXECUTION_PHASE_LOAD_PROJECT", "EXECUTION_PHASE_PARSE")
_NANOSECONDS = 1_000_000_000
_FAILED_SPAN = 2  # OpenTelemetry's code of the status "error"
_WRITING = ("table", "incremental", "seed", "snapshot")


def may_be_of_use(line: bytes) -> bool:
    """Return whether a line can contain an event that is read; faster than parsing it."""
    return any(name in line for name in _NAMES)


class V2Events:
    """The events of one invocation, read in their order.

    Attributes:
        invocation_id: dbt's id of the invocation.
        errors: Messages of errors outside of nodes.
        error_type: ``Parsing`` when dbt could not read the project; else empty.
        answers: Answers to queries that a macro of ``dbt run-operation`` has printed.
        has_ended: Whether dbt has reported its end.
        has_succeeded: Whether it has reported an end without a failure.
    """

    def __init__(self, adapter: str, mask: Callable[[str], str]) -> None:
        """Start without nodes.

        Args:
            adapter: dbt's name of the adapter, which determines how a table's name is quoted.
            mask: Masks the secrets in a string, because dbt v2 does not mask them.
        """
        self._quote = _QUOTES.get(adapter, '"')
        self._mask = mask
        self._messages: defaultdict[str, list[str]] = defaultdict(list)
        self._compiled: dict[str, str] = {}
        self.invocation_id = ""
        self.errors: list[str] = []
        self.error_type = ""
        self.answers: list[str] = []
        self.has_ended = False
        self.has_succeeded = False

    def read(self, event: Mapping[str, Any]) -> EngineValue | None:
        """Convert a record to the start or result of a node, or a message; None for a record without any of these."""
        name, attributes = str(event.get("event_type")).rpartition(".")[2], _mapping(event.get("attributes"))
        is_start, is_end = event.get("record_type") == "SpanStart", event.get("record_type") == "SpanEnd"
        if name == "NodeProcessed" and (is_start or is_end):
            return self._node(event, attributes, is_end=is_end)
        if name == "LogMessage":
            return self._message(str(event.get("severity_text")), self._text(event.get("body")), attributes)
        if name == "CompiledCode":
            self._compiled[str(attributes.get("unique_id"))] = self._mask(str(attributes.get("sql") or ""))
        elif name == "HookProcessed" and is_end:
            return self._hook(event, attributes)
        elif name == "PhaseExecuted" and is_start and attributes.get("phase") == "EXECUTION_PHASE_RUN":
            return NodeCount(_integer(attributes.get("node_count_total")) or 0, has_all=True)
        elif name == "UserLogMessage" and attributes.get("is_print"):
            self.answers.append(str(event.get("body")).removeprefix(ANSWER))
        elif name == "Invocation":
            self.invocation_id = str(attributes.get("invocation_id") or "")
            self.has_ended = is_end
            self.has_succeeded = is_end and _mapping(event.get("status")).get("code") == 1
        return None

    def _node(
        self, event: Mapping[str, Any], attributes: Mapping[str, Any], *, is_end: bool
    ) -> NodeStart | NodeResult | None:
        is_selected = attributes.get("in_selection")
        # Records may omit a field that is false. Of the nodes outside of the selection, only ephemeral models run.
        if is_selected is False or (is_selected is None and _is_ephemeral(attributes)):
            return None
        return self._result(event, attributes) if is_end else self._start(event, attributes)

    def _start(self, event: Mapping[str, Any], attributes: Mapping[str, Any]) -> NodeStart:
        unique_id = str(attributes.get("unique_id") or "")
        resource_type = unique_id.partition(".")[0]
        return NodeStart(
            unique_id=unique_id,
            resource_type=resource_type,
            materialized=_materialized(resource_type, attributes),
            time=_time(event.get("start_time_unix_nano")),
            invocation_id=self.invocation_id,
            relation=self._relation(resource_type, attributes),
        )

    def _result(self, event: Mapping[str, Any], attributes: Mapping[str, Any]) -> NodeResult | None:
        start = self._start(event, attributes)
        has_failed = _mapping(event.get("status")).get("code") == _FAILED_SPAN
        status = _status(attributes, has_error=start.unique_id in self._messages, has_failed=has_failed)
        if status is None:
            return None
        started, finished = (_integer(event.get(f"{name}_time_unix_nano")) or 0 for name in ("start", "end"))
        test = _mapping(attributes.get("node_test_detail"))
        skipped = _mapping(attributes.get("node_skip_upstream_detail"))
        # dbt counts the rows of the last statement, which writes rows only for these materializations.
        rows = _integer(attributes.get("rows_affected")) if start.materialized in _WRITING else None
        return NodeResult(
            unique_id=start.unique_id,
            name=str(attributes.get("name") or start.unique_id.rpartition(".")[2]),
            resource_type=start.resource_type,
            materialized=start.materialized,
            status=status,
            message=self._result_message(start, status, test),
            seconds=max(finished - started, 0) / _NANOSECONDS,
            started=start.time,
            finished=_time(event.get("end_time_unix_nano")),
            failed_rows=(_integer(test.get("failing_rows")) or 0) if status in {"pass", "fail", "warn"} else None,
            adapter_response={} if not rows else {"rows_affected": rows},
            relation=start.relation,
            invocation_id=self.invocation_id,
            compiled_code=self._compiled.pop(start.unique_id, None),
            is_error=status not in {*_SUCCESSES, "skipped"},
            skipped_because_of=str(skipped.get("upstream_unique_id") or ""),
        )

    def _result_message(self, start: NodeStart, status: str, test: Mapping[str, Any]) -> str:
        messages = self._messages.pop(start.unique_id, [])
        if messages:
            return "\n".join(messages)
        if start.resource_type == "unit_test" and test.get("diff_table"):
            return f"actual differs from expected:\n\n{self._text(test['diff_table'])}"
        if status in {"fail", "warn"}:
            rows = _integer(test.get("failing_rows")) or 0
            return f"Got {rows} result{'' if rows == 1 else 's'}"
        if status in {*_SUCCESSES, "skipped", "error"}:
            return ""
        return f"dbt reported the end of the node with an unknown outcome: {status}"

    def _message(
        self, level: str, text: str, attributes: Mapping[str, Any]
    ) -> DbtWarning | NodeError | NothingMatched | None:
        unique_id, code = str(attributes.get("unique_id") or ""), attributes.get("code_name")
        if code == "NoNodesForSelectionCriteria":
            named = _UNMATCHED.search(text)
            return NothingMatched(named[1] if named else text)
        if level == "WARN" and code not in _NOT_REPORTED:
            return DbtWarning(text)
        if level != "ERROR":
            return None
        if unique_id:
            message = _node_message(text, code)
            self._messages[unique_id].append(message)
            return NodeError(unique_id, message)
        self.errors.append(text)
        if attributes.get("phase") in _PARSING:
            self.error_type = "Parsing"
        return None

    def _hook(self, event: Mapping[str, Any], attributes: Mapping[str, Any]) -> FailedHook | None:
        if attributes.get("hook_outcome") != "HOOK_OUTCOME_ERROR":
            return None
        kind = _enumerated(attributes.get("hook_type"), "HOOK_TYPE_").lower().replace("_", "-")
        row = str(attributes.get("name")).rpartition("-")[2]
        name = f"{attributes.get('package_name')}.{kind}.{row}"
        return FailedHook(name, "dbt_project.yml", self._text(_mapping(event.get("status")).get("message")))

    def _relation(self, resource_type: str, attributes: Mapping[str, Any]) -> NodeRelation:
        """Return the node's table; for a test, only if it stores the rows that it finds."""
        if resource_type in _TESTS and not _mapping(attributes.get("node_test_detail")).get("store_failures"):
            return NO_RELATION
        database, schema, alias = (str(attributes.get(name) or "") for name in ("database", "schema", "identifier"))
        quoted = (f"{self._quote}{part}{self._quote}" for part in (database, schema, alias) if part)
        return NodeRelation(database, schema, alias, ".".join(quoted))

    def _text(self, text: object) -> str:
        return self._mask(plain_message(_BACKTRACE.sub("", str(text or ""))))


def _status(attributes: Mapping[str, Any], *, has_error: bool, has_failed: bool) -> str | None:
    """Return dbt-core's status of an ended node; None for a cancelled one.

    Args:
        attributes: The attributes of the node's span.
        has_error: Whether dbt has logged an error of the node.
        has_failed: Whether the span has the status of a failure, which is used for unknown outcomes.
    """
    outcome = _enumerated(attributes.get("node_outcome"), "NODE_OUTCOME_")
    if outcome == "CANCELED":
        return None
    is_test = str(attributes.get("unique_id")).startswith(("test.", "unit_test."))
    if has_error and is_test:  # dbt v2 reports a test with broken SQL as one that has found a row
        return "error"
    if outcome == "SKIPPED":
        reason = _enumerated(attributes.get("node_skip_reason"), "NODE_SKIP_REASON_")
        return _SKIPPED.get(reason, "skipped")
    if outcome == "SUCCESS" and is_test:
        found = _mapping(attributes.get("node_test_detail")).get("test_outcome")
        named = _enumerated(found, "TEST_OUTCOME_")  # the record of a passed test omits it
        return _TEST_STATUSES.get(named, named.lower() or "pass")
    return _OUTCOMES.get(outcome) or ("error" if has_failed else outcome.lower() or "no outcome")


def _node_message(text: str, code: object) -> str:
    """Add the kind of an error to its message, as dbt-core does. A compilation error is not retried."""
    broken = _BROKEN_TEST.fullmatch(text)
    if broken:
        return f"Database Error: {broken['error']}"
    return f"Compilation Error: {_COMPILING.sub('', text)}" if code == "JinjaError" else text


def _materialized(resource_type: str, attributes: Mapping[str, Any]) -> str:
    """Return dbt-core's name of the materialization."""
    if resource_type in {"seed", "snapshot", "test"}:
        return resource_type
    named = _enumerated(attributes.get("materialization"), "NODE_MATERIALIZATION_").lower()
    return "unit" if resource_type == "unit_test" else named


def _is_ephemeral(attributes: Mapping[str, Any]) -> bool:
    return attributes.get("materialization") == "NODE_MATERIALIZATION_EPHEMERAL"


def _enumerated(value: object, prefix: str) -> str:
    return str(value or "").removeprefix(prefix)


def _time(nanoseconds: object) -> str:
    """Format a record's time in ISO 8601; empty when it is missing."""
    number = _integer(nanoseconds)
    if not number:
        return ""
    seconds, rest = divmod(number, _NANOSECONDS)
    try:
        time = datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=rest // 1000)
    except (OverflowError, OSError, ValueError):
        return ""
    return time.isoformat().replace("+00:00", "Z")


def _integer(value: object) -> int | None:
    """Parse an integer, which a record can have as a string; None for other values."""
    try:
        return int(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (OverflowError, ValueError):
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
