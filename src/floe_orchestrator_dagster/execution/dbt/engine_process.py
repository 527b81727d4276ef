"""Process of a dbt engine: environment, start, output, time limit, interrupt, end.

Both engines start a Python process that locks the databases, has a guard (:mod:`process_guard`) and reports events
through a separate pipe, one line of JSON each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.dbt.database_locks import STARTED, WAITING
from floe_orchestrator_dagster.product.profile_file import written_profile
from floe_orchestrator_dagster.product.profiles import create_database_directory, require_variables
from floe_orchestrator_dagster.upstream.dagster_dev import end_terminal_copy

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.process_guard import GuardSettings
    from floe_orchestrator_dagster.product import DbtConnection


_CHUNK = 65_536  # bytes
_PIPE_CHUNKS = 64  # more than a pipe's buffer: a process that dbt has started can continue to print
_TICK_SECONDS = 0.5
_DRAIN_SECONDS = 0.05
GRACE_SECONDS = 2.0
"""Time for dbt to cancel its queries after an interrupt."""
END_SECONDS = 10.0
"""Maximum time between the end of the events and the end of the process."""
_KILL_SECONDS = GRACE_SECONDS + 1


@dataclass
class EngineProcess:
    """A running process of an engine.

    Attributes:
        process: The process.
        output: Its events and printed text.
        origin: The project's directory, for messages.
        log: The run's log.
        limit: Time limit in seconds, after dbt has locked its databases; None for no limit.
        timed_out: Whether dbt was ended because it exceeded the limit.
        timer: Ends dbt at the limit.
    """

    process: subprocess.Popen[bytes]
    output: ProcessOutput
    origin: str
    log: logging.Logger
    limit: int | None
    timed_out: bool = False
    timer: threading.Timer | None = None

    def note(self, name: object, data: Mapping[str, Any]) -> bool:
        """Handle the events that the process sends before dbt starts; return whether this is one of them."""
        if name == WAITING:
            self.log.info("waiting for %s, which another run of dbt uses", data["path"])
        elif name == STARTED and self.limit is not None:
            self.timer = threading.Timer(self.limit, self.time_out)
            self.timer.daemon = True
            self.timer.start()
        return name in (WAITING, STARTED)

    def time_error(self, at: str) -> DbtBuildError:
        """Return the error of a dbt that exceeded its time limit."""
        fix = "Check why it takes this long, or raise plugins.orchestrator.config.dbt.timeout_seconds."
        return DbtBuildError(f"{self.origin}: dbt exceeded its time limit of {self.limit} s.{at} {fix}")

    def unfinished_error(self, at: str) -> DbtBuildError:
        """Return the error of a dbt that ended before it reported its end."""
        fix = "See the step's captured output. SIGKILL usually means that the memory was exhausted."
        return DbtBuildError(f"{self.origin}: {self.how_ended()} before it had completed.{at} {fix}")

    def how_ended(self) -> str:
        """Describe the end of the process by its signal or exit status."""
        code = self.process.returncode
        return f"dbt was killed by {signal.Signals(-code).name}" if code < 0 else f"dbt ended with exit status {code}"

    def stop(self) -> None:
        """End a running dbt: interrupt it, so that it cancels its queries, then kill it and its children."""
        if self.timer is not None:
            self.timer.cancel()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=_KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # dbt's process group has all processes that dbt has started.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def time_out(self) -> None:
        """End dbt at its time limit."""
        if self.process.poll() is None:
            self.timed_out = True
            self.stop()


def running_then(names: Sequence[str]) -> str:
    """Return a sentence with the nodes that had not ended; empty without any."""
    return f" Nodes that had not ended: {', '.join(names)}." if names else ""


@contextmanager
def ready_profile(dbt: DbtConnection) -> Iterator[Path]:
    """Write the profile to a private directory for a dbt process, and create the directory of its database.

    Raises:
        ProfileError: An environment variable of the profile is not set.
    """
    require_variables(dbt.profile)
    create_database_directory(dbt.profile)
    with written_profile(dbt.profile) as directory:
        yield directory


def started_process(  # noqa: PLR0913, PLR0917  # a process needs all of these
    module: str,
    settings: Callable[..., GuardSettings],
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start a module as a process; return it and the reading end of the pipe for its events.

    Args:
        module: Name of the module, whose first argument is its settings.
        settings: Creates the settings of the module from those that this function passes to it.
        arguments: dbt's arguments.
        directory: Working directory. It is not the project, because Python would import modules from its files.
        environment: Environment variables of the process.
        descriptors: Additional file descriptors to inherit.
    """
    end_terminal_copy()  # of dbt's debug log
    events, events_of_dbt = os.pipe()
    try:
        known = settings(parent=os.getpid(), events=events_of_dbt, grace_seconds=GRACE_SECONDS)
        process = subprocess.Popen(
            [sys.executable, "-m", module, known.as_argument(), *arguments],
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
    """End a process at the end of the block, also after an exception."""
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
        **absolute_python_path(),
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


def absolute_python_path() -> dict[str, str]:
    """Return ``PYTHONPATH`` with absolute entries, because the process has another working directory."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in entries)} if any(entries) else {}  # noqa: PTH100


class ProcessOutput:
    """The two pipes of a process: its events, one per line, and the printed text of it and its children."""

    def __init__(self, process: subprocess.Popen[bytes], events: BinaryIO, show: Callable[[bytes], None]) -> None:
        """Read the pipes of a process; ``show`` is called with each printed line, including the newline."""
        self._process, self._events, self._show = process, events, show
        self._printed = process.stdout
        self._shown = self._incomplete = b""
        self._selector = DefaultSelector()
        self._selector.register(events, EVENT_READ)
        if self._printed is not None:
            self._selector.register(self._printed, EVENT_READ)

    def read_lines(self, meanwhile: Callable[[], None]) -> list[bytes] | None:
        """Wait for output for half a second at most, show printed text, and return the next lines of events.

        Args:
            meanwhile: Called once, before the wait.

        Returns:
            The lines, possibly none; None at the end of the events.
        """
        meanwhile()
        # Looked up before select(), so that no output of an ended process is missed.
        has_ended = self._process.poll() is not None
        ready = [key.fileobj for key, _ in self._selector.select(_TICK_SECONDS)]
        if self._printed in ready and not self._pass_on():
            self._selector.unregister(ready[ready.index(self._printed)])
        if self._events not in ready:
            # Without output, another process that dbt has started keeps the pipes open.
            return None if has_ended and not ready else []
        chunk = os.read(self._events.fileno(), _CHUNK)
        if not chunk:
            return None
        *lines, self._incomplete = (self._incomplete + chunk).split(b"\n")
        return lines

    def finish(self, seconds: float) -> bool:
        """Show printed text until the process has ended.

        Args:
            seconds: Maximum time to wait for the end.

        Returns:
            Whether the process has ended.
        """
        until = time.monotonic() + seconds
        has_ended, is_open = False, self._printed is not None
        with DefaultSelector() as selector:
            if self._printed is not None:
                selector.register(self._printed, EVENT_READ)
            while not has_ended and time.monotonic() < until:
                # Looked up before select(), so that no output of an ended process is missed.
                has_ended = self._process.poll() is not None
                for _ in range(_PIPE_CHUNKS):
                    if not is_open or not selector.select(0 if has_ended else _DRAIN_SECONDS):
                        break
                    is_open = self._pass_on()
                if not is_open and not has_ended:
                    time.sleep(_DRAIN_SECONDS)
        if self._shown:
            self._show(self._shown)
            self._shown = b""
        return has_ended

    def close(self) -> None:
        """Close both pipes, so that a process which still writes does not block."""
        self._selector.close()
        self._events.close()
        if self._printed is not None:
            self._printed.close()

    def _pass_on(self) -> bool:
        """Show the available lines; return False at the end of the pipe."""
        chunk = os.read(self._printed.fileno(), _CHUNK) if self._printed is not None else b""
        *lines, self._shown = (self._shown + chunk).split(b"\n")
        for line in lines:
            self._show(line + b"\n")
        return bool(chunk)
