"""Running process of dbt v2: what it reports, its end, and the data that the processes of an invocation share."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.dbt import v2_process
from floe_orchestrator_dagster.execution.dbt.diagnosis import diagnosed
from floe_orchestrator_dagster.execution.dbt.engine_process import (
    END_SECONDS,
    EngineProcess,
    ProcessOutput,
    dbt_variables,
    parsed_line,
    profile_arguments,
    running_then,
    show,
    started_process,
    stopped_at_end,
)
from floe_orchestrator_dagster.execution.dbt.node_result import FailedHook, NodeResult
from floe_orchestrator_dagster.execution.dbt.v2_events import V2Events, may_be_of_use

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.node_result import EngineValue
    from floe_orchestrator_dagster.product import DbtConnection


def _nothing(*_arguments: object) -> Iterator[EngineValue]:
    """Yield nothing."""
    yield from ()


def _wait() -> None:
    """Do nothing between events."""


# The level of the log file also limits the OpenTelemetry records. Those with compiled SQL have the level DEBUG.
_LOGS = ("--log-level", "debug", "--log-level-file", "debug")
_EXIT_FAILURE = 1  # of dbt with failed nodes


@dataclass
class V2Run(EngineProcess):
    """A process of dbt v2, an :class:`~engine.EngineRun`.

    Attributes:
        reader: Reads dbt's events.
        parsed: Yields the values that are known after a separate parse of the project.
        afterwards: Yields the values that are queried after dbt has ended.
        has_failures: Whether nodes or hooks have failed.
        built: The tables that have been built, by unique id.
    """

    reader: V2Events = field(kw_only=True)
    parsed: Callable[[], Iterator[EngineValue]] = field(default=_nothing, kw_only=True)
    afterwards: Callable[[V2Run], Iterator[EngineValue]] = field(default=_nothing, kw_only=True)
    has_failures: bool = field(default=False, kw_only=True)
    built: dict[str, NodeResult] = field(default_factory=dict, kw_only=True)

    def values(self, meanwhile: Callable[[], None] = _wait) -> Iterator[EngineValue]:
        """Yield the values that dbt reports, and print its output; see :meth:`engine.EngineRun.values`."""
        while (lines := self.output.read_lines(meanwhile)) is not None:
            for event in filter(None, map(parsed_line, filter(may_be_of_use, lines))):
                if "info" in event:
                    yield from self._before_dbt(event["info"]["name"], event["data"])
                    continue
                value = self.reader.read(event)
                if value is not None:
                    self._remember(value)
                    yield value
        if not self.output.finish(END_SECONDS):
            self.stop()
        yield from self.afterwards(self)

    def _before_dbt(self, name: str, data: Mapping[str, object]) -> Iterator[EngineValue]:
        """Handle the events that the process sends before dbt starts."""
        if not self.note(name, data) and name == v2_process.PARSED:
            yield from self.parsed()

    def _remember(self, value: EngineValue) -> None:
        if isinstance(value, FailedHook) or (isinstance(value, NodeResult) and value.has_failed):
            self.has_failures = True
        elif isinstance(value, NodeResult) and value.was_built:
            self.built[value.unique_id] = value

    @property
    def is_successful(self) -> bool:
        """Whether dbt ended without a failure."""
        return self.process.returncode == 0 and self.reader.has_succeeded

    def require_end(self, running: Sequence[str]) -> None:
        """Check that dbt has completed its command; see :meth:`engine.EngineRun.require_end`."""
        at, code = running_then(running), self.process.returncode
        if self.timed_out and (running or not self.reader.has_ended):
            raise self.time_error(at)
        # With --fail-fast, dbt reports neither its end nor the end of the running nodes.
        if code == 0:
            return
        if code > 0 and self.has_failures:
            self._log_other_errors(at)
            return
        if code < 0 or not self.reader.errors:
            raise self.unfinished_error(at)
        raise diagnosed(self.origin, self.reader.error_type, "\n".join(self.reader.errors), "v2")

    def _log_other_errors(self, at: str) -> None:
        """Log the errors outside of nodes, because the step's error only lists nodes."""
        for error in self.reader.errors:
            self.log.error("dbt: %s", error)
        if self.process.returncode != _EXIT_FAILURE:
            self.log.error("%s", self.unfinished_error(at))


@dataclass(frozen=True)
class V2Session:
    """Data that the processes of one invocation share.

    Attributes:
        executable: dbt's executable.
        dbt: The dbt project and profile.
        log: The run's log.
        target: Directory for dbt's artifacts.
        profiles: The private directory of the profile; dbt's logs go there, too.
        locks: Descriptors of the databases' lock files, by path. A later process inherits the locks.
        environment: Additional environment variables for dbt.
        mask: Masks the secrets in a string.
        limit: Time limit of a process in seconds.
    """

    executable: str
    dbt: DbtConnection
    log: logging.Logger
    target: Path
    profiles: Path
    locks: Mapping[str, int]
    environment: Mapping[str, str]
    mask: Callable[[str], str]
    limit: int | None

    @contextmanager
    def run(
        self,
        arguments: Sequence[str],
        *,
        parse: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
        shown: Callable[[str], None] = show,
    ) -> Iterator[V2Run]:
        """Start dbt, and end it with the context.

        Args:
            arguments: dbt's arguments.
            parse: Arguments of a ``dbt parse`` that runs first; empty without one.
            variables: Additional environment variables for this process.
            shown: Called with each line that dbt prints.
        """
        environment = {**self._variables(), **self.environment, **variables}
        settings = partial(
            v2_process.Settings,
            profiles=str(self.profiles),
            executable=self.executable,
            project=str(self.dbt.directory.path),
            locks=self.locks,
            parse=[*parse, *profile_arguments(self.dbt), *_LOGS] if parse else (),
        )
        arguments = [*arguments, *profile_arguments(self.dbt), *_LOGS]
        inherited = list(self.locks.values())
        process, events = started_process(v2_process.__name__, settings, arguments, self.target, environment, inherited)
        output = ProcessOutput(process, events, lambda line: shown(self.mask(line.decode(errors="replace"))))
        reader = V2Events(self.dbt.profile.adapter or "", self.mask)
        run = V2Run(process, output, str(self.dbt.directory.path), self.log, self.limit, reader=reader)
        with stopped_at_end(run):
            yield run

    def limited(self, seconds: int | None) -> V2Session:
        """Return a session with this time limit for its processes."""
        return replace(self, limit=seconds)

    def _variables(self) -> dict[str, str]:
        return {
            # Messages without backtraces, which take a second to write.
            "RUST_BACKTRACE": "0",
            **os.environ,
            **dbt_variables(self.dbt, self.target, self.profiles),
            "DBT_LOG_PATH": str(self.profiles),
        }
