"""dbt v2 as an engine: its executable is started, its OpenTelemetry records are read, and it is ended in time.

dbt v2 does not end with its parent, masks no secrets and has no Python interface. It runs below a guard
(:mod:`v2_process`), whatever leaves it is masked here, and its logs are in the private directory of the profile, which
is removed at the end.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.dbt import v2_process
from floe_orchestrator_dagster.execution.dbt.database_locks import open_lock_files
from floe_orchestrator_dagster.execution.dbt.diagnosis import diagnosed
from floe_orchestrator_dagster.execution.dbt.engine_process import (
    END_SECONDS,
    GRACE_SECONDS,
    EngineProcess,
    database_files,
    dbt_variables,
    parsed_line,
    profile_arguments,
    ready_profile,
    running_then,
    show,
    started_process,
    stopped_at_end,
)
from floe_orchestrator_dagster.execution.dbt.engine_values import FailedHook
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.dbt.output import ProcessOutput
from floe_orchestrator_dagster.execution.dbt.v2_events import V2Events, may_be_of_use
from floe_orchestrator_dagster.product.templates import rendered
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


# The level of the log file is also that of the records; compiled SQL comes with DEBUG.
_LOGS = ("--log-level", "debug", "--log-level-file", "debug")
_SECRET_PREFIX = "DBT_ENV_SECRET"  # noqa: S105  # the prefix of a variable's name
# Flags of dbt-core for dbt v2: it warns of those without effect, and its own --warn-error leaves out tests.
_FLAGS: Mapping[str, tuple[str, ...]] = {
    "--no-populate-cache": (),
    "--use-fast-test-edges": (),
    "--no-store-failures": (),
    "--warn-error": ("--warn-error-options", '{"error": "all"}'),
}


@dataclass
class V2Run(EngineProcess):
    """A process of dbt v2, an :class:`~engine.EngineRun`.

    Attributes:
        reader: Reads dbt's events.
        has_failures: Whether nodes or hooks have failed.
    """

    reader: V2Events = field(kw_only=True)
    has_failures: bool = field(default=False, kw_only=True)

    def values(self, meanwhile: Callable[[], None] = _nothing) -> Iterator[EngineValue]:
        """Yield what dbt reports as it comes, and pass on what is printed.

        Args:
            meanwhile: Is called every half second at least, whether events come or not.
        """
        for line in self.output.event_lines(meanwhile):
            event = parsed_line(line) if may_be_of_use(line) else None
            if event is None or self._take(event):
                continue
            value = self.reader.read(event)
            if value is not None:
                self.has_failures |= isinstance(value, FailedHook) or (
                    isinstance(value, NodeResult) and value.has_failed
                )
                yield value
        if not self.output.finish(END_SECONDS):
            self.stop()

    def _take(self, event: Mapping[str, object]) -> bool:
        """Take what the process reports before dbt starts; returns whether it was that."""
        info, data = event.get("info"), event.get("data")
        return isinstance(info, dict) and isinstance(data, dict) and self.note(info.get("name"), data)

    @property
    def is_successful(self) -> bool:
        """Whether dbt did everything without a failure."""
        return self.process.returncode == 0 and self.reader.has_succeeded

    def require_end(self, running: Sequence[str]) -> None:
        """Raise when dbt did not end by itself. A run with failed nodes has ended by itself.

        Args:
            running: Names of the nodes that were running last.

        Raises:
            DbtBuildError: It took too long, was killed, or could not do its work.
        """
        at, code = running_then(running), self.process.returncode
        if self.timed_out and not (self.reader.has_ended and not running):
            raise self.time_error(at)
        # With --fail-fast dbt ends without a report of its end, and of what was running.
        if code == 0 or (code > 0 and self.has_failures):
            return
        if code < 0 or not self.reader.errors:
            raise self.unfinished_error(at)
        raise diagnosed(self.origin, "", "\n".join(self.reader.errors))


@dataclass(frozen=True)
class V2Engine:
    """dbt v2, an :class:`~engine.Engine`.

    Attributes:
        executable: dbt's executable.
        dbt: The project, and the profile with its target.
        config: How dbt is run.
        log: Says what is run.
    """

    executable: str
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
    ) -> Iterator[V2Run]:
        """Start dbt with the compiled profile; it does not run any more when the context is left.

        Args:
            arguments: dbt's arguments.
            target: Directory for dbt's artifacts.
            environment: Further variables for dbt.
            needs_manifest: Whether ``manifest.json`` has to be there when dbt's first node starts, and not only at its
                end: dbt parses the project before it runs, then.

        Raises:
            ProfileError: A variable that the profile reads is not set.
        """
        dbt = self.dbt
        shown = partial(mask, secrets=_secrets(dbt))
        with ready_profile(dbt) as profiles, _locks(dbt) as locks:
            arguments = [*_known_flags(arguments), *_threads(dbt, arguments), *profile_arguments(dbt)]
            self.log.info("running dbt %s", shown(" ".join(arguments)))
            target.chmod(0o700)  # the manifest in it has the values of secrets that the project reads
            settings = partial(
                v2_process.Settings,
                parent=os.getpid(),
                profiles=str(profiles),
                grace_seconds=GRACE_SECONDS,
                executable=self.executable,
                project=str(dbt.directory.path),
                locks=locks,
                parse=_parse(arguments) if needs_manifest else (),
            )
            variables = {**_environment(dbt, target, profiles), **environment}
            command = partial(_command, settings, [*arguments, *_LOGS])
            process, events = started_process(command, target, variables, list(locks.values()))
            output = ProcessOutput(process, events, lambda line: show(shown(line.decode(errors="replace"))))
            reader = V2Events(dbt.profile.adapter or "", shown)
            limit = self.config.timeout_seconds
            run = V2Run(process, output, str(dbt.directory.path), self.log, limit, reader=reader)
            with stopped_at_end(run):
                yield run


def _command(settings: Callable[..., v2_process.Settings], arguments: Sequence[str], events: int) -> list[str]:
    return [sys.executable, "-m", v2_process.__name__, settings(events=events).as_argument(), *arguments]


@contextmanager
def _locks(dbt: DbtConnection) -> Iterator[dict[str, int]]:
    """Open the lock files of the databases: this process keeps what dbt's process locks until the block ends."""
    locks = open_lock_files(database_files(dbt))
    try:
        yield locks
    finally:
        for lock in locks.values():
            os.close(lock)


def _known_flags(arguments: Sequence[str]) -> list[str]:
    return [known for argument in arguments for known in _FLAGS.get(argument, (argument,))]


def _threads(dbt: DbtConnection, arguments: Sequence[str]) -> list[str]:
    """Return dbt's argument for the threads of the profile, which dbt v2 itself ignores."""
    output = dbt.profile.outputs[dbt.profile.target] if dbt.profile.target else {}
    threads = output.get("threads")
    number = rendered(threads) if isinstance(threads, str) else threads
    return ["--threads", str(number)] if number and "--threads" not in arguments else []


def _parse(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a parse with the variables of a command."""
    options = ("--vars", "--profile", "--target")
    kept = [(name, value) for name, value in pairwise(arguments) if name in options]
    return ["parse", *(part for pair in kept for part in pair), *_LOGS]


def _secrets(dbt: DbtConnection) -> tuple[str, ...]:
    """List what must not be shown, longest first: credentials of the profile, and dbt's secret variables."""
    variables = [value for name, value in os.environ.items() if name.startswith(_SECRET_PREFIX) and value]
    lines = [line for value in variables for line in (value, *value.splitlines()) if line]
    return tuple(sorted({*dbt.profile.secrets, *lines}, key=len, reverse=True))


def _environment(dbt: DbtConnection, target: Path, profiles: Path) -> dict[str, str]:
    return {
        # Messages without a trace of dbt's own code, which takes a second to write.
        "RUST_BACKTRACE": "0",
        **os.environ,
        **dbt_variables(dbt, target, profiles),
        "DBT_LOG_PATH": str(profiles),
    }
