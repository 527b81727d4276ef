"""Process that runs dbt-core for a step, started with ``python -m``.

The arguments are the settings as JSON, then dbt's arguments. The parent of the process is a guard
(:mod:`process_guard`), which ends it with the step. The process closes its database connections before it ends, so that
DuckDB merges its ``.wal`` file into the database.

The step reads dbt's events from a separate pipe, one line of JSON each (``{"info": …, "data": …}``, as ``dbt
--log-format json`` prints them). The last event is :data:`END`. Standard output has dbt's debug log and the output of
models, adapters and libraries. dbt masks the values of the variables ``DBT_ENV_SECRET_…`` in both.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from floe_orchestrator_dagster.execution.dbt.core_queries import NodeQueries
from floe_orchestrator_dagster.execution.dbt.database_locks import STARTED, WAITING, lock_databases, open_lock_files
from floe_orchestrator_dagster.execution.dbt.process_guard import GuardSettings, continue_guarded
from floe_orchestrator_dagster.execution.dbt.questions import ANSWER
from floe_orchestrator_dagster.upstream.dbt_core import (
    RunningManifest,
    close_connections,
    event_fields,
    hidden_error,
    masked_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from dbt.cli.main import dbtRunnerResult
    from dbt_common.events.base_types import EventMsg


ANSWERED = "FloeDbtAnswer"
"""Event of an answer that a macro of this package prints (:mod:`questions`); data: its ``text``."""
END = "FloeDbtEnd"
"""Name of the last event; its data: ``success``, and ``error`` and ``error_type`` of the exception that ended dbt."""
RELATIONS = "FloeDbtRelations"
"""Event with the names of all tables in this environment; data: ``relations``, fields of a node by unique id."""
NODE_STARTED = "NodeStart"
NODE_FINISHED = "NodeFinished"
NODE_COUNT = "ConcurrencyLine"
NODE_RAISED = "GenericExceptionOnRun"
BATCH_ENDED = "LogBatchResult"
ERROR_PLACE = "RunResultFailure"
ERROR_TEXT = "RunResultError"
HIDDEN_ERROR = "hidden_error"
"""Field of :data:`NODE_RAISED`: dbt's error, if the exception is that of closing the connection after this error."""
COMPILED = "compiled_code"
"""Field of a snapshot's :data:`NODE_FINISHED` with its compiled query."""
NOTHING_MATCHED = "NoNodesForSelectionCriteria"

# Time for the exit handlers of models and libraries. Some wait for threads that never end.
_EXIT_HANDLER_SECONDS = 5.0
# All warnings and errors are sent, too.
_REPORTED = {NODE_STARTED, NODE_FINISHED, NODE_COUNT, BATCH_ENDED, NOTHING_MATCHED}
_REPORTED_LEVELS = {"warn", "error"}
_PRINTED = "PrintEvent"
_NOT_PRINTED = {"CacheAction", "CacheDumpGraph", "SendingEvent"}
# Fields of an event's data with names of nodes and tables, which are not masked.
_NAMES = {"node_info", "relations"}
# dbt creates a million objects at its start and keeps them. With Python's default, 700, a third of this time is garbage
# collection.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000
_USUAL_COLLECTIONS = gc.get_threshold()
_EXIT_FAILED = 1
_EXIT_UNUSABLE = 2
_EXIT_INTERRUPTED = 130


class PythonEnd:
    """The end of the Python process: runs exit handlers, and does not free dbt's objects."""

    def __init__(self) -> None:
        # Exit handlers run in reverse order of registration, so this one runs last. Python joins threads before them.
        atexit.register(self._end)
        self._status = 0

    def begin(self, status: int) -> NoReturn:
        """End the process with a status, within a few seconds."""
        self._status = status
        limit = threading.Timer(_EXIT_HANDLER_SECONDS, self._end)
        limit.daemon = True
        limit.start()
        sys.exit(status)

    def _end(self) -> None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(self._status)


@dataclass(frozen=True)
class Settings(GuardSettings):
    """Settings of the process besides dbt's arguments.

    Attributes:
        adapter: The adapter to query for the columns and rows of built tables; None for no query.
        shows_columns: Whether to query columns.
        counted: Materializations whose number of rows to query.
        shown_failures: Number of rows to read of those that a failed test finds.
        needs_manifest: Whether ``manifest.json`` is read before the end.
        databases: Database files that only one process can open. The process waits for them and locks them.
    """

    adapter: str | None
    shows_columns: bool = True
    counted: Sequence[str] = ()
    shown_failures: int = 0
    needs_manifest: bool = False
    databases: Sequence[str] = ()


class _Interruption:
    """Handler of termination signals: interrupts dbt once. The guard kills dbt if it does not end."""

    def __init__(self, guard: int) -> None:
        self._guard = guard
        self.happened = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if not self.happened:
            self.happened = True
            os.kill(self._guard, signal.SIGINT)  # the signal may have come from another process
            raise KeyboardInterrupt


class _Reporter:
    """Sends and prints dbt's events, which come from several threads."""

    def __init__(self, settings: Settings, events: BinaryIO) -> None:
        self._queries = NodeQueries(settings, self.print)
        self._events = events
        self._pipe = os.fstat(events.fileno())
        self._lock = threading.Lock()
        self._manifest = RunningManifest(None)

    def __call__(self, event: EventMsg) -> None:
        """Process an event of dbt's event manager."""
        info = cast("Any", event.info)  # a protobuf message; its protocol in dbt lacks fields
        if info.name == _PRINTED and info.msg.startswith(ANSWER):
            self.report(ANSWERED, text=info.msg.removeprefix(ANSWER))
            return
        if info.name not in _NOT_PRINTED and info.msg.strip():
            self.print(f"{info.ts.ToJsonString()[11:23]}  {info.msg.rstrip()}")
        if info.name == NODE_COUNT:
            self._manifest = RunningManifest.current()
            self.report(RELATIONS, relations=self._manifest.table_names())
            # The loaded project stays in memory. Later objects are collected as usual.
            gc.freeze()
            gc.set_threshold(*_USUAL_COLLECTIONS)
        if info.name in _REPORTED or info.level in _REPORTED_LEVELS:
            self._send(self._described(event))

    def end(self, result: dbtRunnerResult) -> None:
        """Send the event of dbt's end."""
        error = result.exception
        self.report(END, success=result.success, error=str(error or ""), error_type=type(error).__name__)

    def report(self, name: str, **data: object) -> None:
        """Send an event of this process, not of dbt."""
        self._send({"info": {"name": name, "level": "info", "msg": ""}, "data": data})

    def print(self, text: str) -> None:
        """Print a line with its secrets masked."""
        # Printing fails when the step has ended, or when a model has closed the stream.
        with self._lock, suppress(OSError, ValueError):
            sys.stdout.write(f"{masked_text(text)}\n")
            sys.stdout.flush()

    def _send(self, event: dict[str, Any]) -> None:
        line = json.dumps(_masked(event), default=str).encode()
        # Sending fails when the step has ended, or when a model has closed the pipe. dbt is ended in both cases.
        with self._lock, suppress(OSError):
            if os.path.samestat(
                os.fstat(self._events.fileno()), self._pipe
            ):  # not another file with the same descriptor
                self._events.write(line + b"\n")
                self._events.flush()

    def _described(self, event: EventMsg) -> dict[str, Any]:
        described = event_fields(event)
        if event.info.name == NODE_STARTED:
            self._queries.started(described["data"]["node_info"]["unique_id"])
        if event.info.name == NODE_RAISED:
            described["data"][HIDDEN_ERROR] = hidden_error(sys.exc_info()[1])
        if event.info.name == NODE_FINISHED:
            data = described["data"]
            if data["node_info"]["resource_type"] == "snapshot":
                data[COMPILED] = self._manifest.compiled_code(data["node_info"]["unique_id"])
            data.update(self._queries.answers(data, self._manifest))
        return described


def _masked(value: Any, key: str = "") -> Any:  # noqa: ANN401 - JSON
    """Mask secrets in an event's strings, but not in names of nodes and fields."""
    if key in _NAMES:
        return value
    if isinstance(value, dict):
        return {name: _masked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return masked_text(value) if isinstance(value, str) else value


def _opened(events: int) -> BinaryIO:
    """Open the pipe for events in this process only, so that child processes cannot write to it."""
    os.set_inheritable(events, False)  # noqa: FBT003 - the standard library's
    still_open = [events]

    def close_in_child() -> None:
        if still_open:  # in a grandchild, the number can belong to another file
            os.close(still_open.pop())

    os.register_at_fork(after_in_child=close_in_child)
    return open(events, "wb")


def _run(settings: Settings, guard: int, arguments: list[str]) -> int:
    """Run dbt.

    Returns:
        The exit status: 0 on success, 1 when nodes failed, 2 when dbt failed, 130 when it was interrupted.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *_USUAL_COLLECTIONS[1:])
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    os.chdir(os.environ["DBT_PROJECT_DIR"])  # relative paths in models and profiles start there
    interruption = _Interruption(guard)
    signal.signal(signal.SIGINT, interruption)
    signal.signal(signal.SIGTERM, interruption)
    reporter = _Reporter(settings, _opened(settings.events))
    try:
        result = _invoke(settings, reporter, arguments)
        close_connections()
        if not interruption.happened:
            reporter.end(result)
            return 0 if result.success else _EXIT_UNUSABLE if result.exception else _EXIT_FAILED
    except KeyboardInterrupt:
        close_connections()
    return _EXIT_INTERRUPTED


def _invoke(settings: Settings, reporter: _Reporter, arguments: list[str]) -> dbtRunnerResult:
    locks = open_lock_files(settings.databases)
    lock_databases(locks, lambda path: reporter.report(WAITING, path=path))
    reporter.report(STARTED)
    from dbt.cli.main import dbtRunner

    from floe_orchestrator_dagster.upstream.dbt_files import leave_out_files

    unknown = leave_out_files(needs_manifest=settings.needs_manifest)
    if unknown is not None:
        reporter.print(f"dbt starts slower with this version of dbt-core, because a patch does not fit: {unknown}")
    sys.argv = ["dbt", *arguments]  # dbt's command in its log and artifacts
    return dbtRunner(callbacks=[reporter]).invoke(arguments)


def main(arguments: list[str]) -> NoReturn:
    """Run dbt with a guard. The arguments are the settings as JSON, then dbt's arguments."""
    settings = Settings(**json.loads(arguments[0]))
    guard = continue_guarded(settings)
    leave = PythonEnd()
    leave.begin(_run(settings, guard, arguments[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
