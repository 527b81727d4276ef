"""State of a step's database: its tables with their columns, the data of sources, and signs of an older database.

A local DuckDB file is read without dbt, because that is faster. Other databases are asked through dbt's adapter.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import FloeDagsterError
from floe_orchestrator_dagster.execution.dbt.catalog import (
    AMBIGUOUS,
    TABLE,
    Catalog,
    loading_time,
    query_catalog,
    table_name,
)
from floe_orchestrator_dagster.execution.dbt.duckdb_tables import DuckdbListing, database_iteration, own_file
from floe_orchestrator_dagster.execution.dbt.engine import engine_for
from floe_orchestrator_dagster.execution.reuse.graph import STORED
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord
from floe_orchestrator_dagster.execution.reuse.source_files import file_version, is_file, is_url, location
from floe_orchestrator_dagster.execution.step.build_facts import Places, SourceFiles, is_assumed_unchanged
from floe_orchestrator_dagster.execution.step.database_epochs import Database
from floe_orchestrator_dagster.product.templates import rendered

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.execution.reuse.records import State
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep

_ASSUMED = "assumed"
# Settings of profiles with the database of sources that name none.
_DATABASES = ("dbname", "database", "catalog", "project")


@dataclass(frozen=True)
class Warehouse:
    """The database of a step at one time: each question is asked once.

    Attributes:
        step: The step's definition.
        tables: Nodes of dbt's manifest whose tables may exist.
        sources: The sources that they read.
        log: The run's log.
    """

    step: DbtStep
    tables: Sequence[Mapping[str, Any]]
    sources: Sequence[Mapping[str, Any]]
    log: logging.Logger

    @cached_property
    def catalog(self) -> Catalog:
        """The tables and views of the database; empty if it cannot be asked."""
        return self._file_catalog if self.is_on_duckdb else self._asked

    @contextmanager
    def listed_beside(self) -> Iterator[None]:
        """List the tables of DuckDB's file in another process while the body of the ``with`` statement runs."""
        if self.is_on_duckdb:
            self._listing.start()
        try:
            yield
        finally:
            self._listing.close()

    @cached_property
    def database(self) -> Database | None:
        """The database; None if an older one in its place would not be noticed."""
        connection = self.step.connection
        if not self.is_on_duckdb:
            state = self._asked.state
            name = f"database {Places(connection, 0).database}"
            return Database(name, state.identity, state.written) if state is not None else None
        path = own_file(connection)
        if path is None:
            return None
        return Database(f"file {path}", "", database_iteration(path))

    @cached_property
    def versions(self) -> dict[str, str]:
        """The data versions of the sources; without those that have none."""
        found = {**self._assumed, **self._files}
        if not self._loaded:
            return found
        # A new column does not change the newest row.
        columns = self._columns
        newest = self._asked.newest if columns or not self.is_on_duckdb else {}
        return found | {one: f"{newest[one]} {columns[one]}" for one in newest.keys() & columns.keys()}

    @cached_property
    def source_columns(self) -> dict[str, str]:
        """Versions of the columns of sources; without those that are not known."""
        # DuckDB's file is not read for the columns alone.
        has_catalog = self._loaded or not self.is_on_duckdb
        return {**self._assumed, **self._files, **(self._columns if has_catalog else {})}

    def existing(
        self, unique_ids: Iterable[str], states: Mapping[str, State], shapes: Mapping[str, tuple[str, str]]
    ) -> dict[str, bool | None]:
        """Look up whether tables exist as their last build has left them; None if that is not known.

        Args:
            unique_ids: The nodes.
            states: The build of each table.
            shapes: The build of each table and its shape after the build.
        """
        ids, nodes = list(unique_ids), self.step.manifest.content["nodes"]
        if not ids:
            return {}
        found: dict[str, bool | None] = {}
        for unique_id in ids:
            name, state = table_name(nodes[unique_id]), states.get(unique_id)
            relation = self.catalog.relations.get(name)
            if not self.catalog.is_known(name):
                found[unique_id] = None
            elif relation is None or relation.kind != _expected_kind(nodes[unique_id]):
                found[unique_id] = False
            elif isinstance(state, BuildRecord) and shapes.get(unique_id, ("",))[0] == state.build_id:
                found[unique_id] = shapes[unique_id][1] == relation.shape
            else:
                found[unique_id] = None
        return found

    @property
    def is_on_duckdb(self) -> bool:
        """Whether the database is DuckDB, whose file is read without dbt."""
        return self.step.connection.profile.adapter == "duckdb"

    @cached_property
    def _file_catalog(self) -> Catalog:
        return self._listing.catalog() or Catalog()

    @cached_property
    def _listing(self) -> DuckdbListing:
        return DuckdbListing(self.step.connection)

    @cached_property
    def _asked(self) -> Catalog:
        """The answers of dbt's adapter. DuckDB is only asked for the newest rows."""
        step = self.step
        tables = [] if self.is_on_duckdb else [*self.tables, *self.sources]
        try:
            engine = engine_for(step.connection, step.product.config.dbt, self.log)
            loaded = {one: source for one, source in self._loaded.items() if tables or one in self._columns}
            found = query_catalog(engine, step.connection.profile.adapter or "", tables, loaded)
        except FloeDagsterError as error:
            self.log.warning("no table is reused, because the database cannot be queried: %s", error)
            return Catalog()
        for name, reason in sorted(found.errors.items()):
            effect = (
                f"{name} counts as changed"
                if name in self._loaded
                else f"no table of {name or 'the database'} is reused"
            )
            self.log.warning("%s, because it cannot be queried: %s", effect, reason)
        return found

    @cached_property
    def _assumed(self) -> dict[str, str]:
        chosen = frozenset(self.step.product.config.assume_unchanged)
        return {source["unique_id"]: _ASSUMED for source in self.sources if is_assumed_unchanged(source, chosen)}

    @cached_property
    def _located(self) -> dict[str, Mapping[str, Any]]:
        """The sources whose table or file does not depend on variables, the target, or the order of nodes."""
        known = self._assumed.keys() | self.step.unclear_sources
        others = [source for source in self.sources if source["unique_id"] not in known]
        files = SourceFiles(self.step.connection.directory.path)
        return {source["unique_id"]: source for source in others if not files.has_values(source)}

    @cached_property
    def _files(self) -> dict[str, str]:
        """The versions of sources that are files, of this machine or of web servers."""
        if not self.is_on_duckdb:
            return {}
        project = self.step.connection.directory.path
        places = {one: place for one, source in self._located.items() if (place := location(source))}
        urls = {one: place for one, place in places.items() if is_url(place)}
        versions = {one: file_version(place, project) for one, place in places.items() if one not in urls}
        return {**{one: data for one, data in versions.items() if data}, **self._of_urls(urls)}

    def _of_urls(self, urls: Mapping[str, str]) -> dict[str, str]:
        if not urls:
            return {}
        from floe_orchestrator_dagster.execution.reuse.source_urls import url_versions  # few products need it

        versions, failures = url_versions(urls)
        for name, reason in failures.items():
            self.log.warning("%s counts as changed: %s", name, reason)
        return versions

    @cached_property
    def _loaded(self) -> dict[str, Mapping[str, Any]]:
        """The sources whose newest row can be queried."""
        return {one: source for one, source in self._tables_of_sources.items() if _has_loading_time(source)}

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Hashes of the columns of sources that are tables of the database."""
        relations = self.catalog.relations
        names = {one: table_name(source) for one, source in self._tables_of_sources.items()}
        found = {one: relations[name] for one, name in names.items() if name in relations}
        return {one: relation.columns for one, relation in found.items() if relation.kind != AMBIGUOUS}

    @property
    def _tables_of_sources(self) -> dict[str, Mapping[str, Any]]:
        tables = {one: source for one, source in self._located.items() if not (self.is_on_duckdb and is_file(source))}
        return {one: source for one, source in tables.items() if self._is_in_database(source)}

    def _is_in_database(self, source: Mapping[str, Any]) -> bool:
        """Return whether a source is in the profile's current database; true if the profile has no template for it.

        The manifest can have been written with other variables.
        """
        profile = self.step.connection.profile
        output = profile.outputs.get(profile.target or "", {})
        named = [value for name in _DATABASES if isinstance(value := output.get(name), str) and "{" in value]
        databases = [(rendered(value, profile.environment) or "").lower() for value in named]
        return not databases or str(source.get("database") or "").lower() in databases


def _expected_kind(node: Mapping[str, Any]) -> str:
    kind = node["config"].get("materialized") or node["resource_type"]
    return TABLE if kind in STORED else str(kind)


def _has_loading_time(source: Mapping[str, Any]) -> bool:
    texts = loading_time(source)
    return any(texts) and not any("{{" in text or "{%" in text for text in texts if text)
