"""dbt build of a pull request in schemas or a DuckDB file of the pull request, which are removed afterwards.

Nodes that are not built are read from production: dbt defers to production's manifest.
"""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.errors import DbtBuildError, FloeDagsterError, ManifestError, Problem, PullRequestError
from floe_orchestrator_dagster.execution.dbt.engine import engine_for
from floe_orchestrator_dagster.execution.dbt.node_result import DbtWarning, NodeResult
from floe_orchestrator_dagster.execution.dbt.results import Results
from floe_orchestrator_dagster.execution.step.node_selection import Selection, selection_arguments
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE
from floe_orchestrator_dagster.pull_request.report import NodeReport
from floe_orchestrator_dagster.pull_request.warehouse import Copies, TableName, Warehouse
from floe_orchestrator_dagster.redaction import mask, redact

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.product import DbtConnection
    from floe_orchestrator_dagster.pull_request.changes import Changes
    from floe_orchestrator_dagster.pull_request.place import Place
    from floe_orchestrator_dagster.pull_request.warehouse import Shape

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STORED = ("model", "seed", "snapshot", "function")
# Only tests that set `store_failures` themselves store rows, because only their schema is checked before the build.
_ENVIRONMENT = {"DBT_STORE_FAILURES": "false", "DBT_ENGINE_STORE_FAILURES": "false"}
_BUILT_ON = ("incremental", "snapshot")


@dataclass(frozen=True)
class Production:
    """Production's tables.

    Attributes:
        manifest: The file of production's manifest.
        content: Its content.
    """

    manifest: Path
    content: Mapping[str, Any]

    def table(self, unique_id: str) -> TableName | None:
        """Return the table of a node or source in production; None if there is none."""
        node = self.content["nodes"].get(unique_id) or self.content["sources"].get(unique_id)
        if node is None or (node.get("config") or {}).get("materialized") == "ephemeral":
            return None
        return TableName.of(node)


@dataclass
class Build:
    """The build of a pull request.

    Attributes:
        changes: The nodes to build.
        place: The place of its tables.
        production: Production's tables.
        config: Settings of dbt's runs.
        scratch: A temporary directory.
        log: Receives dbt's commands.
        progress: Called with a line about each node that has ended.
        keep: Whether the place is kept.
        notes: Remarks about the build.
        errors: Failures outside of nodes.
        results: Results of the nodes.
        seconds: Duration of dbt's build.
    """

    changes: Changes
    place: Place
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
            PullRequestError: The place cannot be used, or nodes would be built elsewhere. Nothing was built.
            FloeDagsterError: dbt cannot parse the project, or cannot connect.
        """
        with self.place.reserved():
            manifest = self._parse()
            tables = self._checked_tables(manifest)
            views = self._source_views(manifest, tables)
            with self._created([*tables.values(), *(new for _, new in views.values())]):
                started_from, before = self._prepare(manifest, tables, views)
                self._build(manifest)
                built = {one: tables[one] for one, result in self.results.finished.items() if result.was_built}
                after = self._warehouse.shapes(built)
        reports = self._reports(manifest, started_from)
        return [replace(node, before=before.get(node.unique_id), after=after.get(node.unique_id)) for node in reports]

    @property
    def _connection(self) -> DbtConnection:
        return self.place.connection

    @property
    def _warehouse(self) -> Warehouse:
        return warehouse_of(self._connection, self.config, self.log)

    def _parse(self) -> Mapping[str, Any]:
        """Parse the project with the place's profile, and return the manifest's content."""
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
        """Return the table of each selected node, all of which are in the place.

        Raises:
            PullRequestError: Some nodes would be built elsewhere.
        """
        stored = {one: node for one in sorted(self.changes.selected) if (node := nodes.get(one)) and _is_stored(node)}
        problems = [*self.place.problems(stored)]
        tables = {one: TableName.of(node) for one, node in stored.items()}
        known = [table for one in self.production.content["nodes"] if (table := self.production.table(one))]
        existing = {table.folded for table in known}
        problems += [
            Problem(one, f"would overwrite production's table {'.'.join(table.folded)}", "Use another --schema.")
            for one, table in tables.items()
            if table.folded in existing
        ]
        if problems:
            raise PullRequestError(str(self._connection.directory.path), problems)
        return tables

    @contextmanager
    def _created(self, tables: Iterable[TableName]) -> Iterator[None]:
        """Create the place, and remove it at the end, also after an interrupt."""
        has_ended = False
        try:
            self.place.create(tables)
            yield
            has_ended = True
        finally:
            with _uninterrupted():
                self._end()
            if not has_ended:  # there is no report
                for line in (*self.errors, *self.notes):
                    self.progress(line)

    def _end(self) -> None:
        try:
            if self.keep:
                self.notes.append(f"the {self.place.description} is kept")
                self.place.check()
            else:
                self.place.remove()
        except FloeDagsterError as error:
            self.errors.append(f"the {self.place.description}: {error}")

    def _source_views(
        self, nodes: Mapping[str, Any], tables: Mapping[str, TableName]
    ) -> dict[str, tuple[TableName, TableName]]:
        """Return the views to create in the place, of production's tables, for sources that are in the place here."""
        taken = {table.folded for table in tables.values()}
        views = {}
        for one in sorted(self._read_sources(nodes)):
            new = TableName.of(nodes[one])
            old = self.place.original(nodes[one], self.production.table(one))
            if old is not None and new.folded not in {*taken, old.folded}:
                views[one] = (old, new)
        return views

    def _read_sources(self, nodes: Mapping[str, Any]) -> set[str]:
        """Return the sources that the selected nodes read, also through ephemeral models and functions."""
        waiting, found = [*self.changes.selected], set[str]()
        while waiting:
            node = nodes.get(waiting.pop(), {})
            read = {one for one in (node.get("depends_on") or {}).get("nodes") or () if one in nodes} - found
            found |= read
            waiting += (one for one in read if not _is_stored(nodes[one]) or one.startswith("function."))
        return {one for one in found if one.startswith("source.")}

    def _prepare(
        self,
        nodes: Mapping[str, Any],
        tables: Mapping[str, TableName],
        views: Mapping[str, tuple[TableName, TableName]],
    ) -> tuple[dict[str, str], dict[str, Shape]]:
        """Copy the tables of incremental models and snapshots, and create the views of sources.

        Returns:
            The rows from which each incremental model or snapshot starts, and the shapes of production's tables.
        """
        growing = [one for one in tables if _materialized(nodes[one]) in _BUILT_ON]
        copied = {one: (old, tables[one]) for one in growing if (old := self.production.table(one)) is not None}
        compared = {one: table for one in self.changes.built if (table := self.production.table(one)) is not None}
        failed, shapes = self._warehouse.prepare(Copies(copied, views), compared)
        for one in sorted(failed.keys() & views):
            name = ".".join(filter(None, views[one][0].parts))
            self.notes.append(f"{one} cannot be read from production's table {name}: {failed[one]}")
        return {one: _start(one, copied, failed) for one in growing}, shapes

    def _build(self, nodes: Mapping[str, Any]) -> None:
        state = self.scratch / "state"
        selection = selection_arguments(Selection(self.changes.selected), state)
        shutil.copyfile(self.production.manifest, state / MANIFEST_FILE)
        self.results = Results({one: (node.get("depends_on") or {}).get("nodes") or () for one, node in nodes.items()})
        engine = engine_for(self._connection, _without_queries(self.config), self.log)
        arguments = ["build", *selection, "--defer", "--favor-state"]
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
        except DbtBuildError as error:
            self.errors.append(str(error))
        if not self.results.finished:
            now, before = self._connection.engine.version, self.production.content["metadata"].get("dbt_version")
            self.errors.append(
                f"dbt {now} ran no node. If it cannot read production's manifest, which dbt {before} has written, "
                "build both with the same engine."
            )
        self.errors += [f"hook {hook.name}: {hook.message}" for hook in self.results.failed_hooks]
        self.seconds = time.monotonic() - began

    @property
    def _target(self) -> Path:
        return self.scratch / "target"

    def _reports(self, nodes: Mapping[str, Any], started_from: Mapping[str, str]) -> list[NodeReport]:
        changes, finished = self.changes, self.results.finished
        reasons = {**changes.built, **changes.tests}
        order = [*(one for one in finished if one in reasons), *(one for one in reasons if one not in finished)]
        return [
            _with_result(
                NodeReport(
                    unique_id=one,
                    name=one.split(".")[2] if one.startswith("test.") else ".".join(one.split(".")[2:]),
                    resource_type=one.partition(".")[0],
                    is_changed=one in changes.changed,
                    reason=reasons[one],
                    started_from=started_from.get(one, ""),
                ),
                finished.get(one),
                self.results,
                self._compiled(nodes.get(one, {}), finished.get(one)),
            )
            for one in order
            if _materialized(nodes.get(one, {})) != "ephemeral"
        ]

    def _compiled(self, node: Mapping[str, Any], result: NodeResult | None) -> str:
        """Return the query of a failed test; empty for other nodes, and if it is not known."""
        if result is None or not result.is_test or not result.has_failed:
            return ""
        if result.compiled_code:
            return result.compiled_code
        paths = (self._target / "compiled").rglob(str(Path(str(node.get("path") or "?")).name))
        query = next((path.read_text(encoding="utf-8") for path in paths if path.is_file()), "")
        return mask(query, secrets=self._connection.profile.masked_values)


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


def _is_stored(node: Mapping[str, Any]) -> bool:
    """Return whether dbt writes a table, view or function for a node; also the rows that a test finds."""
    if node["resource_type"] == "test":
        return bool((node.get("config") or {}).get("store_failures"))
    return node["resource_type"] in _STORED and _materialized(node) != "ephemeral"


def _materialized(node: Mapping[str, Any]) -> str:
    return str((node.get("config") or {}).get("materialized") or "")


def _start(unique_id: str, copied: Mapping[str, object], failed: Mapping[str, str]) -> str:
    if unique_id in failed:
        return f"full refresh: production's table was not copied, {failed[unique_id]}"
    return "copy of production's table" if unique_id in copied else "full refresh: production has no table"


def _with_result(report: NodeReport, result: NodeResult | None, results: Results, query: str) -> NodeReport:
    if result is None:
        return report
    causes = ", ".join(cause.name for cause in results.causes(result)) if result.was_skipped else ""
    message = f"skipped because of {causes}" if causes else result.message
    return replace(
        report,
        status=result.status,
        ending=result.ending,
        message=redact(message),
        seconds=result.seconds,
        query=redact(query),
    )
