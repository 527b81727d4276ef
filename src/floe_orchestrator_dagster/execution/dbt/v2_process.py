"""The process that becomes dbt v2 for a step, started with ``python -m``: it never outlives the step.

It has a guard for its parent (:mod:`process_guard`), locks the databases, and is replaced by dbt's executable, which
keeps the locks, the process group and the pipe for events. dbt writes its OpenTelemetry records to the pipe, one line
of JSON each; before that come the events of :mod:`database_locks`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn

from floe_orchestrator_dagster.execution.dbt.database_locks import STARTED, WAITING, lock_databases
from floe_orchestrator_dagster.execution.dbt.process_guard import continue_guarded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARSED = "FloeDbtParsed"
"""Event of a project that dbt has parsed before it runs: its manifest is in the target directory."""
_EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Settings:
    """Settings of the process besides dbt's arguments.

    Attributes:
        parent: Process id of the step; dbt ends when that is gone.
        events: File descriptor of the pipe for events.
        profiles: The directory of ``profiles.yml``, which is removed when the step is gone.
        grace_seconds: How long dbt may take to cancel its queries once it is interrupted.
        executable: dbt's executable.
        project: The project's directory, in which dbt runs.
        locks: Inherited descriptors of lock files, by the path of the database.
        parse: Arguments of a ``dbt parse`` that runs first; empty without one.
    """

    parent: int
    events: int
    profiles: str
    grace_seconds: float
    executable: str
    project: str
    locks: Mapping[str, int]
    parse: Sequence[str] = ()

    def as_argument(self) -> str:
        """Write the settings as the process reads them."""
        return json.dumps(asdict(self))


def main(arguments: list[str]) -> NoReturn:
    """Run dbt with a guard; the arguments are the settings as JSON, and dbt's own."""
    settings = Settings(**json.loads(arguments[0]))

    def remove_profiles() -> None:
        shutil.rmtree(settings.profiles, ignore_errors=True)  # the step cannot do it any more

    continue_guarded(settings.parent, settings.grace_seconds, settings.events, remove_profiles)
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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a program inherits that
    records = ("--otel-file-name", f"/dev/fd/{settings.events}")
    os.execv(settings.executable, [settings.executable, *arguments, *records])  # noqa: S606  # a shell would only be in between


def _report(events: int, name: str, **data: object) -> None:
    event = {"info": {"name": name}, "data": data}
    os.write(events, json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
