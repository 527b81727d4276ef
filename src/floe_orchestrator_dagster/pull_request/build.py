"""dbt build of a pull request in a separate destination, which is removed afterwards.

Nodes that are not built are read from production: dbt defers to production's manifest.
"""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.errors import DbtBuildError, FloeDagsterError, ManifestError, Problem, PullRequestError
from floe_orchestrator_dagster.execution.dbt.engine import engine_for
from floe_orchestrator_dagster.execution.dbt.node_result import DbtWarning, NodeResult
from floe_orchestrator_dagster.execution.dbt.results import Results
from floe_orchestrator_dagster.execution.step.node_selection import Selection, selection_arguments
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE
from floe_orchestrator_dagster.pull_request.production import is_stored, planned_copies, starts_from_rows
from floe_orchestrator_dagster.pull_request.results import node_reports, other_failures
from floe_orchestrator_dagster.pull_request.warehouse import TableName, Warehouse

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.product import DbtConnection
    from floe_orchestrator_dagster.pull_request.changes import Changes
    from floe_orchestrator_dagster.pull_request.destination import Destination
    from floe_orchestrator_dagster.pull_request.production import Production
    from floe_orchestrator_dagster.pull_request.report import NodeReport
    from floe_orchestrator_dagster.pull_request.warehouse import Copies

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Only tests that set `store_failures` themselves store rows, because only their schema is checked before the build.
_ENVIRONMENT = {"DBT_STORE_FAILURES": "false", "DBT_ENGINE_STORE_FAILURES": "false"}


@dataclass
class Build:
    """The build of a pull request.

    Attributes:
        changes: The nodes to build.
        destination: The destination of its tables.
        production: Production's tables.
        config: Settings of dbt's runs.
        scratch: A temporary directory.
        log: Receives dbt's commands.
        progress: Called with a line about each node that has ended.
        keep: Whether the destination is kept.
        notes: Remarks about the build.
        errors: Failures outside of nodes.
        results: Results of the nodes.
        seconds: Duration of dbt's build.
    """

    changes: Changes
    destination: Destination
    production: Production
    config: DbtConfig
    scratch: Path
    log: logging.Logger
    progress: Callable[[str], None]
    keep: bool = False
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    results: Results = field(default_factory=lambda: Results({}))
    seconds: float = 0.0

    def run(self) -> list[NodeReport]:
        """Build and test the changes, and compare the tables with production's.

        Raises:
            PullRequestError: The destination cannot be used, nodes would be built elsewhere, or dbt has run no node.
                Nothing was built.
            FloeDagsterError: dbt cannot parse the project, or cannot connect.
        """
        with self.destination.reserved():
            nodes = self._parse()
            tables = self._checked_tables(nodes)
            copies = planned_copies(nodes, tables, self.changes.selected, self.production, self.destination)
            with self._created([*tables.values(), *(new for _, new in copies.views.values())]):
                started_from = self._copy(copies, [one for one in tables if starts_from_rows(nodes[one])])
                self._build(nodes)
                compared = self._compared_if_possible(tables)
        masked = self._connection.profile.masked_values
        reports = node_reports(self.changes, nodes, self.results, self._target / "compiled", masked)
        return [
            replace(one, started_from=started_from.get(one.unique_id, ""), **compared.get(one.unique_id, {}))
            for one in reports
        ]

    @property
    def _connection(self) -> DbtConnection:
        return self.destination.connection

    @property
    def _warehouse(self) -> Warehouse:
        return warehouse_of(self._connection, self.config, self.log)

    def _parse(self) -> Mapping[str, Any]:
        """Parse the project with the destination's profile, and return its nodes, functions and sources."""
        target = self._target
        target.mkdir()
        engine = engine_for(self._connection, _without_queries(self.config), self.log)
        with engine.start(["parse"], target, needs_manifest=True) as run:
            for _ in run.values():
                pass
            run.require_end(())
        path = target / MANIFEST_FILE
        if not path.is_file():
            fix = "Run `floe-dagster validate`, which shows dbt's errors."
            raise ManifestError(
                str(self._connection.directory.path), [Problem("", "dbt cannot parse the project", fix)]
            )
        content: dict[str, Any] = orjson.loads(path.read_bytes())
        return {**content["nodes"], **(content.get("functions") or {}), **content["sources"]}

    def _checked_tables(self, nodes: Mapping[str, Any]) -> dict[str, TableName]:
        """Return the table of each selected node, all of which are in the destination.

        Raises:
            PullRequestError: Some nodes would be built elsewhere.
        """
        stored = {one: node for one in sorted(self.changes.selected) if (node := nodes.get(one)) and is_stored(node)}
        tables = {one: TableName.of(node) for one, node in stored.items()}
        existing = {table.folded for table in self.production.tables.values()}
        problems = [
            *self.destination.problems(stored),
            *(
                Problem(one, f"would overwrite production's table {'.'.join(table.folded)}", "Use another --schema.")
                for one, table in tables.items()
                if table.folded in existing
            ),
        ]
        if problems:
            raise PullRequestError(str(self._connection.directory.path), problems)
        return tables

    @contextmanager
    def _created(self, tables: Iterable[TableName]) -> Iterator[None]:
        """Create the destination, and remove it at the end, also after an interrupt."""
        has_ended = False
        try:
            self.destination.create(tables)
            yield
            has_ended = True
        finally:
            with _uninterrupted():
                self._end()
            if not has_ended:  # no report exists
                for line in (*self.errors, *self.notes):
                    self.progress(line)

    def _end(self) -> None:
        try:
            if self.keep:
                self.notes.append(f"the {self.destination.description} is kept")
                self.destination.check()
            else:
                self.destination.remove()
        except FloeDagsterError as error:
            self.errors.append(f"the {self.destination.description}: {error}")

    def _copy(self, copies: Copies, growing: Iterable[str]) -> dict[str, str]:
        """Copy the tables of incremental models and snapshots, and create the views of sources.

        Returns:
            The rows from which each incremental model or snapshot starts.
        """
        failed = self._warehouse.create(copies)
        for one in sorted(failed.keys() & copies.views):
            name = ".".join(filter(None, copies.views[one][0].parts))
            self.notes.append(f"{one} cannot be read from production's table {name}: {failed[one]}")
        return {one: _start(one, copies, failed) for one in growing}

    def _build(self, nodes: Mapping[str, Any]) -> None:
        """Run dbt.

        Raises:
            PullRequestError: It has started no node.
        """
        state = self.scratch / "state"
        selection = selection_arguments(Selection(self.changes.selected), state)
        deferred = self.scratch / "deferred"
        deferred.mkdir()
        shutil.copyfile(self.production.manifest, deferred / MANIFEST_FILE)
        self.results = Results({one: (node.get("depends_on") or {}).get("nodes") or () for one, node in nodes.items()})
        engine = engine_for(self._connection, _without_queries(self.config), self.log)
        # Without this directory, dbt would take the one of an environment variable.
        arguments = ["build", *selection, "--defer", "--defer-state", str(deferred), "--favor-state"]
        began = time.monotonic()
        try:
            with engine.start(arguments, self._target, _ENVIRONMENT) as run:
                for value in run.values():
                    self.results.add(value)
                    if isinstance(value, NodeResult):
                        self.progress(f"{value.unique_id.split('.')[2]}: {value.status}")
                    elif isinstance(value, DbtWarning):
                        self.log.warning("dbt: %s", value.message)
                run.require_end(self.results.running_names)
                self.errors += other_failures(self.changes, nodes, self.results, is_successful=run.is_successful)
        except DbtBuildError as error:
            self.errors.append(str(error))
        self.errors += [f"hook {hook.name}: {hook.message}" for hook in self.results.failed_hooks]
        self.seconds = time.monotonic() - began
        if not (self.results.finished or self.results.running or self.results.failed_hooks):
            raise self._nothing_built()

    def _nothing_built(self) -> PullRequestError:
        now, before = self._connection.engine.version, self.production.content["metadata"].get("dbt_version")
        said, self.errors = ": ".join(["", *self.errors]), []
        fix = (
            "Correct the cause, and build again. If dbt cannot read production's manifest, which dbt "
            f"{before} has written, build both with the same engine."
        )
        return PullRequestError(
            str(self._connection.directory.path), [Problem("", f"dbt {now} ran no node{said}", fix)]
        )

    def _compared_if_possible(self, tables: Mapping[str, TableName]) -> dict[str, dict[str, Any]]:
        try:
            return self._compared(tables)
        except FloeDagsterError as error:  # what was built and tested is reported
            self.notes.append(f"rows and columns are not compared: {error}")
            return {}

    def _compared(self, tables: Mapping[str, TableName]) -> dict[str, dict[str, Any]]:
        """Return columns and rows of each selected table in production and here."""
        existing = self.production.tables
        before = {one: existing[one] for one in self.changes.built if one in existing}
        after = {one: tables[one] for one, result in self.results.finished.items() if result.was_built}
        stats = self._warehouse.stats([*before.values(), *after.values()])
        found: dict[str, dict[str, Any]] = {one: {} for one in before | after}
        for name, known in (("before", before), ("after", after)):
            for one, table in known.items():
                found[one][name] = stats.get(table)
        return found

    @property
    def _target(self) -> Path:
        return self.scratch / "target"


def warehouse_of(dbt: DbtConnection, config: DbtConfig, log: logging.Logger) -> Warehouse:
    """Return the warehouse of a profile."""
    return Warehouse(engine_for(dbt, config, log))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore signals that end this process, so that the block can complete."""
    before = {number: signal.signal(number, _ignored) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignored(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. Processes that are started meanwhile do not inherit this, as they would ``SIG_IGN``."""


def _without_queries(config: DbtConfig) -> DbtConfig:
    """Return the settings without queries of columns and rows, which this build queries itself."""
    return config.model_copy(update={"columns": False, "row_counts": False})


def _start(unique_id: str, copies: Copies, failed: Mapping[str, str]) -> str:
    if unique_id in failed:
        return f"full refresh: production's table was not copied, {failed[unique_id]}"
    return "copy of production's table" if unique_id in copies.tables else "full refresh: production has no table"
