"""Engine for dbt v2: start of its executable, OpenTelemetry records, interrupt and end.

dbt v2 does not end with its parent, masks no secrets and has no Python interface. A guard, its parent process, ends it
(:mod:`v2_process`). Secrets in its output are masked here. Its logs are in the private directory of the profile, which
is removed at the end.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.execution.dbt.database_locks import open_lock_files
from floe_orchestrator_dagster.execution.dbt.engine_process import database_files, profile_arguments, ready_profile
from floe_orchestrator_dagster.execution.dbt.node_result import TableNames
from floe_orchestrator_dagster.execution.dbt.questions import asked
from floe_orchestrator_dagster.execution.dbt.target import SOURCE_RESULTS_FILE
from floe_orchestrator_dagster.execution.dbt.v2_questions import answers, built_tables, check_sources
from floe_orchestrator_dagster.execution.dbt.v2_run import V2Session
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.redaction import mask

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.node_result import EngineValue
    from floe_orchestrator_dagster.execution.dbt.v2_run import V2Run
    from floe_orchestrator_dagster.product import DbtConnection

# Replacements of dbt-core's flags. dbt v2 warns about flags without effect, and its --warn-error ignores tests.
_FLAGS: Mapping[str, tuple[str, ...]] = {
    "--no-populate-cache": (),
    "--use-fast-test-edges": (),
    "--no-store-failures": (),
    "--warn-error": ("--warn-error-options", '{"error": "all"}'),
}
_NAMES = ("database", "schema", "alias", "identifier", "relation_name")


@dataclass(frozen=True)
class V2Engine:
    """dbt v2, an :class:`~engine.Engine`.

    Attributes:
        executable: dbt's executable.
        dbt: The dbt project and profile.
        config: Settings of dbt's runs.
        log: The run's log.
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
        """Start dbt with the compiled profile; see :meth:`engine.Engine.start`.

        A ``dbt parse`` runs first if ``needs_manifest``, because dbt v2 writes its manifest at its end.
        """
        with self._session(target, environment) as session:
            arguments = [*_known_flags(arguments), *_threads(self.dbt, arguments)]
            parse = ["parse", *_variables(arguments)] if needs_manifest else []
            self._announce(arguments, session)
            with session.run(arguments, parse=parse) as run:
                run.parsed = partial(_table_names, target)
                if self.config.columns or self.config.row_counts:
                    run.afterwards = partial(_tables, session, self.config)
                yield run

    @contextmanager
    def freshness(
        self,
        sources: Sequence[str],
        arguments: Sequence[str],
        target: Path,
        *,
        needs_manifest: bool = False,  # noqa: ARG002  # dbt parses the project anyway
    ) -> Iterator[V2Run]:
        """Check the freshness of sources with a query for each; see :meth:`engine.SourceEngine.freshness`.

        dbt v2 has no command for it. Of the arguments, only variables are used.
        """
        with self._session(target, {}) as session:
            parse = ["parse", *_variables(arguments)]
            self._announce(parse, session)
            with session.run(parse) as run:
                run.afterwards = partial(_freshness, session, sources)
                yield run

    def answers(self, question: str, tables: Mapping[str, Sequence[str | None]]) -> Iterator[tuple[str, Any, str]]:
        """Run a query for each table; see :meth:`engine.SourceEngine.answers`."""
        with TemporaryDirectory(prefix="floe-dbt-question-") as scratch, self._session(Path(scratch), {}) as session:
            yield from asked(partial(answers, session, question), tables, session.limit)

    def _announce(self, arguments: Sequence[str], session: V2Session) -> None:
        self.log.info("running dbt %s", session.mask(" ".join([*arguments, *profile_arguments(self.dbt)])))

    @contextmanager
    def _session(self, target: Path, environment: Mapping[str, str]) -> Iterator[V2Session]:
        shown = partial(mask, secrets=self.dbt.profile.masked_values)
        target.chmod(0o700)  # dbt masks nothing in its artifacts
        with ready_profile(self.dbt) as profiles, _locks(self.dbt) as locks:
            yield V2Session(
                self.executable,
                self.dbt,
                self.log,
                target,
                profiles,
                locks,
                environment,
                shown,
                self.config.timeout_seconds,
            )


def _table_names(target: Path) -> Iterator[TableNames]:
    """Read the names of all tables from dbt's manifest; empty if dbt could not parse the project."""
    path = target / MANIFEST_FILE
    if path.is_file():
        content = orjson.loads(path.read_bytes())
        nodes = {**content["nodes"], **content["sources"]}
        yield TableNames({one: {name: node.get(name) for name in _NAMES} for one, node in nodes.items()})


def _freshness(session: V2Session, sources: Sequence[str], run: V2Run) -> Iterator[EngineValue]:
    """Check the freshness of the sources, with their names in this run."""
    if not run.is_successful:
        return
    yield from _table_names(session.target)
    known = orjson.loads((session.target / MANIFEST_FILE).read_bytes())["sources"]
    chosen = {unique_id: known[unique_id] for unique_id in sources if unique_id in known}
    yield from check_sources(session, chosen, session.target / SOURCE_RESULTS_FILE)


def _tables(session: V2Session, config: DbtConfig, run: V2Run) -> Iterator[EngineValue]:
    """Query the columns and rows of all built tables, after dbt has released the database."""
    if not run.built or run.timed_out or not run.reader.has_ended:
        return
    found, failures = built_tables(session, [*run.built.values()], config)
    if failures:
        session.log.info("%d queries of columns and rows failed: %s", len(failures), failures[0])
    if found.columns or found.rows:
        yield found


@contextmanager
def _locks(dbt: DbtConnection) -> Iterator[dict[str, int]]:
    """Open the lock files of the databases. dbt's process locks them, and the locks last until the end of the block."""
    locks = open_lock_files(database_files(dbt))
    try:
        yield locks
    finally:
        for lock in locks.values():
            os.close(lock)


def _known_flags(arguments: Sequence[str]) -> list[str]:
    return [known for argument in arguments for known in _FLAGS.get(argument, (argument,))]


def _threads(dbt: DbtConnection, arguments: Sequence[str]) -> list[str]:
    """Return dbt's argument for the threads of the profile, because dbt v2 ignores them in the profile."""
    output = dbt.profile.outputs[dbt.profile.target] if dbt.profile.target else {}
    threads = output.get("threads")
    number = rendered(threads, dbt.profile.environment) if isinstance(threads, str) else threads
    return ["--threads", str(number)] if number and "--threads" not in arguments else []


def _variables(arguments: Sequence[str]) -> list[str]:
    """Return the argument for variables among those of a command."""
    return next(([name, value] for name, value in pairwise(arguments) if name == "--vars"), [])
