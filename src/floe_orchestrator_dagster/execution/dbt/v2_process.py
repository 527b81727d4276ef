"""Process that starts dbt v2 for a step, started with ``python -m``.

Its parent is a guard (:mod:`process_guard`), which ends it with the step. It locks the databases, and is then replaced
by dbt's executable, which keeps the locks, the process group and the pipe for events. dbt writes its OpenTelemetry
records to the pipe, one line of JSON each, after the events of :mod:`database_locks`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from floe_orchestrator_dagster.execution.dbt.database_locks import STARTED, WAITING, lock_databases
from floe_orchestrator_dagster.execution.dbt.process_guard import GuardSettings, continue_guarded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARSED = "FloeDbtParsed"
"""Event after the ``dbt parse`` that runs before the actual command. The manifest is then in the target directory."""
_EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Settings(GuardSettings):
    """Settings of the process besides dbt's arguments.

    Attributes:
        executable: dbt's executable.
        project: The project's directory, in which dbt runs.
        locks: Inherited descriptors of lock files, by the path of the database.
        parse: Arguments of a ``dbt parse`` that runs first; empty without one.
    """

    executable: str
    project: str
    locks: Mapping[str, int]
    parse: Sequence[str] = ()


def main(arguments: list[str]) -> NoReturn:
    """Run dbt with a guard. The arguments are the settings as JSON, then dbt's arguments."""
    settings = Settings(**json.loads(arguments[0]))
    continue_guarded(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(settings, arguments[1:])
    except KeyboardInterrupt:
        os._exit(_EXIT_INTERRUPTED)


def _run(settings: Settings, arguments: list[str]) -> NoReturn:
    os.chdir(settings.project)  # relative paths in models and profiles start there
    lock_databases(settings.locks, lambda path: _report(settings.events, WAITING, path=path))
    _report(settings.events, STARTED)
    if settings.parse:
        subprocess.run([settings.executable, *settings.parse], check=False)
        _report(settings.events, PARSED)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores SIGPIPE, and dbt would inherit that
    records = ("--otel-file-name", f"/dev/fd/{settings.events}")
    os.execv(settings.executable, [settings.executable, *arguments, *records])  # noqa: S606  # a shell would only be in between


def _report(events: int, name: str, **data: object) -> None:
    event = {"info": {"name": name}, "data": data}
    os.write(events, json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
