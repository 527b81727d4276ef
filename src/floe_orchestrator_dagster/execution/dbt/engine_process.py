"""Process of a dbt engine: environment, start, time limit, interrupt, end.

Both engines start a Python process that locks the databases, has a guard (:mod:`process_guard`) and reports through a
pipe of its own, one line of JSON for each event.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.dbt.database_locks import STARTED, WAITING
from floe_orchestrator_dagster.product.profile_file import written_profile
from floe_orchestrator_dagster.product.profiles import create_database_directory, require_variables

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.output import ProcessOutput
    from floe_orchestrator_dagster.product import DbtConnection

GRACE_SECONDS = 2.0
"""How long dbt may take to cancel its queries once it is interrupted."""
END_SECONDS = 10.0
"""From the end of its events, which the operating system closes, to that of the process."""
_KILL_SECONDS = GRACE_SECONDS + 1


@dataclass
class EngineProcess:
    """A running process of an engine.

    Attributes:
        process: The process.
        output: What it says.
        origin: The project's directory, for messages.
        log: The run's log.
        limit: How long dbt may take, in seconds, from when it has its databases.
        timed_out: Whether it was ended because it took too long.
        timer: Ends dbt when its time is over.
    """

    process: subprocess.Popen[bytes]
    output: ProcessOutput
    origin: str
    log: logging.Logger
    limit: int | None
    timed_out: bool = False
    timer: threading.Timer | None = None

    def note(self, name: object, data: Mapping[str, Any]) -> bool:
        """Take what the process reports before dbt itself starts; returns whether it was that."""
        if name == WAITING:
            self.log.info("waiting for %s: another run of dbt uses it", data["path"])
        elif name == STARTED and self.limit is not None:
            self.timer = threading.Timer(self.limit, self.time_out)
            self.timer.daemon = True
            self.timer.start()
        return name in (WAITING, STARTED)

    def time_error(self, at: str) -> DbtBuildError:
        """Return the error of a dbt that was ended because its time was over."""
        fix = "Look at what these wait for, or raise plugins.orchestrator.config.dbt.timeout_seconds."
        return DbtBuildError(f"{self.origin}: dbt was ended after {self.limit} s, its limit.{at} {fix}")

    def unfinished_error(self, at: str) -> DbtBuildError:
        """Return the error of a dbt that ended before it was done."""
        code = self.process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        fix = "The step's captured output holds its last words; SIGKILL mostly means that memory ran out."
        return DbtBuildError(f"{self.origin}: dbt was {how} before it was done.{at} {fix}")

    def stop(self) -> None:
        """End dbt, if it still runs: interrupted first, for it to cancel its queries, then killed with its children."""
        if self.timer is not None:
            self.timer.cancel()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=_KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # Processes that dbt has started are in its process group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def time_out(self) -> None:
        """End dbt because its time is over."""
        if self.process.poll() is None:
            self.timed_out = True
            self.stop()


def running_then(names: Sequence[str]) -> str:
    """Write the names of the nodes that were running last as a part of a message; empty without any."""
    return f" Running then: {', '.join(names)}." if names else ""


@contextmanager
def ready_profile(dbt: DbtConnection) -> Iterator[Path]:
    """Write the profile to a private directory for a dbt process, and create the directory of its database.

    Raises:
        ProfileError: A variable that the profile reads is not set.
    """
    require_variables(dbt.profile)
    create_database_directory(dbt.profile)
    with written_profile(dbt.profile) as directory:
        yield directory


def started_process(
    command: Callable[[int], Sequence[str]],
    directory: Path,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start a process in ``directory``; returns it and the end of a pipe that its events come from.

    Args:
        command: Returns the arguments, given the descriptor that the process writes events to.
        directory: Python looks for modules where it is started: not in the project, whose files may have any name.
        environment: Its variables.
        descriptors: Further file descriptors that it inherits.
    """
    events, events_of_dbt = os.pipe()
    try:
        process = subprocess.Popen(
            command(events_of_dbt),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=[events_of_dbt, *descriptors],
            cwd=directory,
            env=environment,
        )
    except BaseException:
        os.close(events)
        raise
    finally:
        os.close(events_of_dbt)
    return process, os.fdopen(events, "rb", buffering=0)


@contextmanager
def stopped_at_end(run: EngineProcess) -> Iterator[None]:
    """End a process with the block, whatever happens in it."""
    try:
        yield
    finally:
        run.output.close()  # dbt must not wait for a reader while it ends
        sys.stdout.flush()
        run.stop()


def profile_arguments(dbt: DbtConnection) -> list[str]:
    """Return dbt's arguments for the compiled profile and its target."""
    target = ["--target", dbt.profile.target] if dbt.profile.target else []
    return ["--profile", dbt.profile.name, *target]


def dbt_variables(dbt: DbtConnection, target: Path, profiles: Path) -> dict[str, str]:
    """Return the variables that place dbt's project, profile and artifacts, and switch its telemetry off."""
    return {
        **_absolute_python_path(),
        "DAGSTER_DBT_CLI": "true",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_TARGET_PATH": str(target),
        "DBT_PROFILES_DIR": str(profiles),
        "DBT_PROJECT_DIR": str(dbt.directory.path),
    }


def database_files(dbt: DbtConnection) -> list[str]:
    """Return the absolute paths of the DuckDB files that dbt writes."""
    return [str((dbt.directory.path / path).resolve()) for path in dbt.profile.duckdb_files]


def parsed_line(line: bytes) -> dict[str, Any] | None:
    """Parse an event; None for a line that dbt has not written completely, because it was killed."""
    try:
        event: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event


def show(text: str) -> None:
    """Print a line of dbt's log as the step's output."""
    sys.stdout.write(text)


def _absolute_python_path() -> dict[str, str]:
    """Python is started elsewhere, where relative entries would mean something else."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in entries)} if any(entries) else {}  # noqa: PTH100
