"""dbt-core 1.x as an engine: a process that is started, read, and ended in time.

dbt runs in a process of its own (:mod:`core_process`), so that it can be ended whatever it does; the compiled profile
exists on disk only while it runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.dbt import core_process
from floe_orchestrator_dagster.execution.dbt.core_events import CoreEvents
from floe_orchestrator_dagster.execution.dbt.diagnosis import diagnosed
from floe_orchestrator_dagster.execution.dbt.output import ProcessOutput
from floe_orchestrator_dagster.product.profile_file import written_profile
from floe_orchestrator_dagster.product.profiles import create_database_directory, require_adapter, require_variables
from floe_orchestrator_dagster.redaction import mask

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.engine_values import EngineValue
    from floe_orchestrator_dagster.product import DbtConnection


def _nothing() -> None:
    """Do nothing meanwhile."""


_GRACE_SECONDS = 2.0
_KILL_SECONDS = _GRACE_SECONDS + 1
# From the end of its events, which the operating system closes, to that of the process.
_END_SECONDS = 10.0
_GLOBAL_FLAGS = ("--log-level", "none", "--log-level-file", "none", "--no-use-colors")


@dataclass
class CoreRun:
    """A process of dbt-core, an :class:`~engine.EngineRun`.

    Attributes:
        process: The process.
        output: What it says.
        origin: The project's directory, for messages.
        log: The run's log.
        limit: How long dbt may take, in seconds, from when it has its databases.
        timed_out: Whether it was ended because it took too long.
        is_cut_off: Whether it was ended because it had closed the pipe of its events.
        end: The data of dbt's last event, once it came.
        timer: Ends dbt when its time is over.
    """

    process: subprocess.Popen[bytes]
    output: ProcessOutput
    origin: str
    log: logging.Logger
    limit: int | None
    timed_out: bool = False
    is_cut_off: bool = False
    end: Mapping[str, Any] = field(default_factory=dict)
    timer: threading.Timer | None = None

    def values(self, meanwhile: Callable[[], None] = _nothing) -> Iterator[EngineValue]:
        """Yield what dbt reports as it comes, and pass on what is printed.

        Args:
            meanwhile: Is called every half second at least, whether events come or not.
        """
        reader = CoreEvents()
        for line in self.output.event_lines(meanwhile):
            event = _parsed(line)
            value = reader.read(event) if event is not None and not self._take(event) else None
            if value is not None:
                yield value
            if self.end:
                break
        if not self.output.finish(_END_SECONDS):
            self.is_cut_off = not self.end
            self.stop()

    def _take(self, event: Mapping[str, Any]) -> bool:
        """Take what the process says of itself; returns whether it was that."""
        name, data = event["info"]["name"], event["data"]
        if name == core_process.WAITING:
            self.log.info("waiting for %s: another run of dbt uses it", data["path"])
        elif name == core_process.STARTED and self.limit is not None:
            self.timer = threading.Timer(self.limit, self.time_out)
            self.timer.daemon = True
            self.timer.start()
        elif name == core_process.END:
            self.end = data
        return name in (core_process.WAITING, core_process.STARTED, core_process.END)

    @property
    def is_successful(self) -> bool:
        """Whether dbt did everything without a failure."""
        return self.process.returncode == 0 and bool(self.end.get("success"))

    def require_end(self, running: Sequence[str]) -> None:
        """Raise when dbt did not end by itself. A run with failed nodes has ended by itself.

        Args:
            running: Names of the nodes that were running last.

        Raises:
            DbtBuildError: It took too long, was killed, or could not do its work.
        """
        at = f" Running then: {', '.join(running)}." if running else ""
        if self.timed_out and not self.end:
            fix = "Look at what these wait for, or raise plugins.orchestrator.config.dbt.timeout_seconds."
            raise DbtBuildError(f"{self.origin}: dbt was ended after {self.limit} s, its limit.{at} {fix}")
        if self.is_cut_off:
            what = "dbt was ended because the pipe of its events was closed while it ran"
            fix = "A Python model must not close files that it has not opened, as os.closerange does."
            raise DbtBuildError(f"{self.origin}: {what}.{at} {fix}")
        if not self.end:
            code = self.process.returncode
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
            fix = "The step's captured output holds its last words; SIGKILL mostly means that memory ran out."
            raise DbtBuildError(f"{self.origin}: dbt was {how} before it was done.{at} {fix}")
        if self.end["error"]:
            raise diagnosed(self.origin, self.end["error_type"], self.end["error"])

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


@dataclass(frozen=True)
class CoreEngine:
    """dbt-core 1.x, an :class:`~engine.Engine`.

    Attributes:
        dbt: The project, and the profile with its target.
        config: How dbt is run.
        log: Says what is run.
    """

    dbt: DbtConnection
    config: DbtConfig
    log: logging.Logger

    @contextmanager
    def start(
        self,
        arguments: Sequence[str],
        target: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
        *,
        needs_manifest: bool = False,
    ) -> Iterator[CoreRun]:
        """Start dbt with the compiled profile; it does not run any more when the context is left.

        Args:
            arguments: dbt's arguments.
            target: Directory for dbt's artifacts.
            environment: Further variables for dbt.
            needs_manifest: Whether ``manifest.json`` has to be there when dbt's first node starts, and not only at its
                end.

        Raises:
            ProfileError: A variable that the profile reads is not set, or the adapter is not installed.
        """
        dbt = self.dbt
        require_adapter(dbt.profile)
        require_variables(dbt.profile)
        create_database_directory(dbt.profile)
        with written_profile(dbt.profile) as profiles_directory:
            arguments = [*arguments, *_profile_arguments(dbt)]
            shown = partial(mask, secrets=dbt.profile.secrets)
            self.log.info("running dbt %s", shown(" ".join(arguments)))
            variables = {**_environment(dbt, target, profiles_directory), **environment}
            settings = self._settings(profiles_directory, needs_manifest=needs_manifest)
            # Python looks for modules where it was started: not in the project, whose files may be called anything.
            process, events = _started(settings, arguments, target, variables)
            output = ProcessOutput(process, events, lambda line: _show(shown(line.decode(errors="replace"))))
            run = CoreRun(process, output, str(dbt.directory.path), self.log, self.config.timeout_seconds)
            try:
                yield run
            finally:
                output.close()  # dbt must not wait for a reader while it ends
                sys.stdout.flush()
                run.stop()

    def _settings(self, profiles: Path, *, needs_manifest: bool) -> Callable[..., core_process.Settings]:
        dbt = self.dbt
        return partial(
            core_process.Settings,
            parent=os.getpid(),
            profiles=str(profiles),
            grace_seconds=_GRACE_SECONDS,
            adapter=dbt.profile.adapter if self.config.columns else None,
            needs_manifest=needs_manifest,
            databases=[str((dbt.directory.path / path).resolve()) for path in dbt.profile.duckdb_files],
        )


def _started(
    settings: Callable[..., core_process.Settings],
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start the process in ``directory``; returns it and the end of a pipe that its events come from."""
    events, events_of_dbt = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", core_process.__name__, settings(events=events_of_dbt).as_argument()),
                *_GLOBAL_FLAGS,
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=[events_of_dbt],
            cwd=directory,
            env=environment,
        )
    except BaseException:
        os.close(events)
        raise
    finally:
        os.close(events_of_dbt)
    return process, os.fdopen(events, "rb", buffering=0)


def _show(text: str) -> None:
    sys.stdout.write(text)


def _profile_arguments(dbt: DbtConnection) -> list[str]:
    target = ["--target", dbt.profile.target] if dbt.profile.target else []
    return ["--profile", dbt.profile.name, *target]


def _environment(dbt: DbtConnection, target: Path, profiles_directory: Path) -> dict[str, str]:
    masked = {f"DBT_ENV_SECRET_FLOE_{row}": secret for row, secret in enumerate(dbt.profile.secrets)}
    return {
        # The same order of nodes and tests in a third of the time with 2,000 models; dbt 1.9 does not know it.
        "DBT_USE_FAST_TEST_EDGES": "true",
        **os.environ,
        **masked,
        **_absolute_python_path(),
        "DAGSTER_DBT_CLI": "true",
        "PYTHONUNBUFFERED": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(target),
        "DBT_PROFILES_DIR": str(profiles_directory),
        "DBT_PROJECT_DIR": str(dbt.directory.path),
    }


def _absolute_python_path() -> dict[str, str]:
    """Python is started elsewhere, where relative entries would mean something else."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in entries)} if any(entries) else {}  # noqa: PTH100


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # dbt was killed while it wrote
    return event
