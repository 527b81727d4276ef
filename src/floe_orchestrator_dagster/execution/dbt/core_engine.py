"""Engine for dbt-core 1.x: start, events, interrupt and end of its process.

dbt runs in a separate process (:mod:`core_process`), which can always be ended. The compiled profile is on disk only
while dbt runs.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.dbt import core_process
from floe_orchestrator_dagster.execution.dbt.core_events import CoreEvents
from floe_orchestrator_dagster.execution.dbt.diagnosis import diagnosed, plain_message
from floe_orchestrator_dagster.execution.dbt.engine_process import (
    END_SECONDS,
    EngineProcess,
    ProcessOutput,
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
from floe_orchestrator_dagster.execution.dbt.questions import OPERATION, Answers, asked, read_answers, write_project
from floe_orchestrator_dagster.product.adapters import require_adapter
from floe_orchestrator_dagster.redaction import mask

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.node_result import EngineValue
    from floe_orchestrator_dagster.product import DbtConnection


def _nothing() -> None:
    """Do nothing between events."""


def _not_shown(_line: str) -> None:
    """Drop a line."""


_ERROR = "error"
_GLOBAL_FLAGS = ("--log-level", "none", "--log-level-file", "none", "--no-use-colors")


@dataclass
class CoreRun(EngineProcess):
    """A process of dbt-core, an :class:`~engine.EngineRun`.

    Attributes:
        is_cut_off: Whether dbt was ended because it had closed the pipe for events.
        end: Data of the last event; empty before it.
        answers: Answers to queries that a macro of ``dbt run-operation`` has printed.
        errors: Messages of dbt's errors.
    """

    is_cut_off: bool = False
    end: Mapping[str, Any] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def values(self, meanwhile: Callable[[], None] = _nothing) -> Iterator[EngineValue]:
        """Yield the values that dbt reports, and print its output; see :meth:`engine.EngineRun.values`."""
        reader = CoreEvents()
        while not self.end and (lines := self.output.read_lines(meanwhile)) is not None:
            for event in filter(None, map(parsed_line, lines)):
                value = None if self._take(event) else reader.read(event)
                if value is not None:
                    yield value
        if not self.output.finish(END_SECONDS):
            self.is_cut_off = not self.end
            self.stop()

    def _take(self, event: Mapping[str, Any]) -> bool:
        """Handle the events that the process sends itself; return whether this is one of them."""
        name, data = event["info"]["name"], event["data"]
        if name == core_process.END:
            self.end = data
        elif name == core_process.ANSWERED:
            self.answers.append(data["text"])
        elif event["info"].get("level") == _ERROR:
            self.errors.append(plain_message(str(event["info"].get("msg"))))
        return self.note(name, data) or name in {core_process.END, core_process.ANSWERED}

    @property
    def is_successful(self) -> bool:
        """Whether dbt ended without a failure."""
        return self.process.returncode == 0 and bool(self.end.get("success"))

    def require_end(self, running: Sequence[str]) -> None:
        """Check that dbt has completed its command; see :meth:`engine.EngineRun.require_end`."""
        at = running_then(running)
        if self.timed_out and not self.end:
            raise self.time_error(at)
        if self.is_cut_off:
            what = "dbt was ended because it closed the pipe for its events"
            fix = "In a Python model, close only files that it has opened. os.closerange also closes others."
            raise DbtBuildError(f"{self.origin}: {what}.{at} {fix}")
        if not self.end:
            raise self.unfinished_error(at)
        if self.end["error"]:
            raise diagnosed(self.origin, self.end["error_type"], self.end["error"])


@dataclass(frozen=True)
class CoreEngine:
    """dbt-core 1.x, an :class:`~engine.Engine`.

    Attributes:
        dbt: The dbt project and profile.
        config: Settings of dbt's runs.
        log: The run's log.
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
        """Start dbt with the compiled profile; see :meth:`engine.Engine.start`."""
        shown = partial(mask, secrets=self.dbt.profile.secrets)
        self.log.info("running dbt %s", shown(" ".join([*arguments, *profile_arguments(self.dbt)])))
        limit = self.config.timeout_seconds
        with self._process(arguments, target, environment, limit, show, needs_manifest=needs_manifest) as run:
            yield run

    @contextmanager
    def _process(  # noqa: PLR0913  # a process needs all of these
        self,
        arguments: Sequence[str],
        target: Path,
        environment: Mapping[str, str],
        limit: int | None,
        show: Callable[[str], None],
        *,
        needs_manifest: bool = False,
    ) -> Iterator[CoreRun]:
        dbt = self.dbt
        require_adapter(dbt.profile, dbt.engine)
        with ready_profile(dbt) as profiles:
            arguments = [*arguments, *profile_arguments(dbt)]
            shown = partial(mask, secrets=dbt.profile.secrets)
            variables = {**_environment(dbt, target, profiles), **environment}
            settings = self._settings(profiles, needs_manifest=needs_manifest)
            process, events = started_process(
                core_process.__name__, settings, [*_GLOBAL_FLAGS, *arguments], target, variables
            )
            output = ProcessOutput(process, events, lambda line: show(shown(line.decode(errors="replace"))))
            run = CoreRun(process, output, str(dbt.directory.path), self.log, limit)
            with stopped_at_end(run):
                yield run

    def answers(self, question: str, tables: Mapping[str, Sequence[str | None]]) -> Iterator[tuple[str, Any, str]]:
        """Run a query for each table; see :meth:`engine.SourceEngine.answers`."""
        with TemporaryDirectory(prefix="floe-dbt-question-") as scratch:
            command = partial(self._answers, Path(scratch), question)
            yield from asked(command, tables, self.config.timeout_seconds)

    def _answers(
        self, directory: Path, question: str, tables: Sequence[Sequence[str | None]], seconds: int | None
    ) -> Answers:
        project = write_project(directory, self.dbt.profile.name, tables, question)
        # The process runs in the directory of the product's project, at which relative paths of the profile start.
        arguments = [*OPERATION, "--project-dir", str(project)]
        with self._process(arguments, directory, {}, seconds, _not_shown) as run:
            for _ in run.values():
                pass
            error = "\n".join(run.errors) or str(run.end.get("error") or "") or run.how_ended()
            return read_answers(run.answers, error, has_ended=run.timed_out or run.is_successful)

    def freshness(
        self,
        sources: Sequence[str],  # noqa: ARG002  # selected by the arguments
        arguments: Sequence[str],
        target: Path,
        *,
        needs_manifest: bool = False,
    ) -> AbstractContextManager[CoreRun]:
        """Start ``dbt source freshness``; see :meth:`engine.SourceEngine.freshness`."""
        return self.start(["source", "freshness", *arguments], target, needs_manifest=needs_manifest)

    def _settings(self, profiles: Path, *, needs_manifest: bool) -> Callable[..., core_process.Settings]:
        dbt = self.dbt
        return partial(
            core_process.Settings,
            profiles=str(profiles),
            adapter=dbt.profile.adapter,
            shows_columns=self.config.columns,
            counted=sorted(self.config.counted_materializations),
            shown_failures=self.config.failed_rows,
            needs_manifest=needs_manifest,
            databases=database_files(dbt),
        )


def _environment(dbt: DbtConnection, target: Path, profiles: Path) -> dict[str, str]:
    masked = {f"DBT_ENV_SECRET_FLOE_{row}": secret for row, secret in enumerate(dbt.profile.secrets)}
    return {
        # A faster algorithm for the same order of nodes and tests. dbt 1.9 ignores the variable.
        "DBT_USE_FAST_TEST_EDGES": "true",
        **os.environ,
        **masked,
        **dbt_variables(dbt, target, profiles),
        "PYTHONUNBUFFERED": "1",
        "DBT_LOG_PATH": str(target),
    }
