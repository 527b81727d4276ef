"""Records of a run's builds and test results, by which later runs decide what has changed."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.execution.dbt.catalog import table_name
from floe_orchestrator_dagster.execution.reuse.compiled_reads import MISSING, compiled_read
from floe_orchestrator_dagster.execution.reuse.knowledge import column_version, read_codes, read_inputs
from floe_orchestrator_dagster.execution.reuse.partitions import series_of
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord
from floe_orchestrator_dagster.execution.step.build_history import BEFORE, OTHER_ROWS, RECORD, record_before
from floe_orchestrator_dagster.execution.step.build_marks import mark_started, store_shapes, store_tests
from floe_orchestrator_dagster.execution.step.database_epochs import note_database
from floe_orchestrator_dagster.execution.step.partition_builds import PartitionBuilds
from floe_orchestrator_dagster.execution.step.warehouse import Warehouse
from floe_orchestrator_dagster.product.unnamed_reads import UNCERTAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
    from floe_orchestrator_dagster.execution.reuse.knowledge import Known
    from floe_orchestrator_dagster.execution.step.build_facts import Places
    from floe_orchestrator_dagster.execution.step.build_history import BuildHistory
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.build_request import BuildRequest
    from floe_orchestrator_dagster.execution.step.other_computes import OtherComputes


@dataclass
class BuildRecords:
    """Records of a run: builds in the metadata of materializations, results of tests beside them.

    Attributes:
        context: The step's context.
        step: The step's definition.
        graph: The product's graph.
        known: What was known before the run.
        history: What Dagster's instance knew.
        places: Where the tables are.
        request: What the run asks for.
        warehouse: The database before the run.
        others: The tables of other computes that the step reads.
        recreated: Views that are created again, because the build of their tables drops them.
        changed_increments: Incremental models that the run builds, and whose rows also come from other code.
        partitions: The partitions that the run builds.
        keeps_others: Nodes whose build certainly leaves the rows of other partitions in their table.
    """

    context: dg.OpExecutionContext
    step: DbtStep
    graph: BuildGraph
    known: Known
    history: BuildHistory
    places: Places
    request: BuildRequest
    warehouse: Warehouse
    others: OtherComputes
    recreated: AbstractSet[str] = frozenset()
    changed_increments: AbstractSet[str] = frozenset()
    partitions: PartitionBuilds = field(default_factory=PartitionBuilds)
    keeps_others: AbstractSet[str] = frozenset()
    _invocation: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    _built: dict[str, str] = field(default_factory=dict, init=False)
    _columns: dict[str, str | None] = field(default_factory=dict, init=False)
    _finished: dict[str, str] = field(default_factory=dict, init=False)
    _tests: dict[str, CheckRecord] = field(default_factory=dict, init=False)
    _tables: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict, init=False)
    _failed: set[str] = field(default_factory=set, init=False)

    @property
    def is_refreshed(self) -> bool:
        """Whether dbt runs with ``--full-refresh`` although the run does not ask for it."""
        is_wanted = self.request.build_all is None and self.step.product.config.full_refresh_on_change
        # It would remove the rows of other partitions.
        return is_wanted and self.step.partitions is None and bool(self.changed_increments)

    def built(
        self, result: NodeResult, node: Mapping[str, Any], content: Mapping[str, Any], queries: Sequence[str]
    ) -> tuple[dict[str, Any], str]:
        """Return the metadata and the data version of a build.

        Args:
            result: The result of the node.
            node: The node with the names of its table in this run.
            content: The manifest with the names of all tables in this run.
            queries: The node's compiled SQL.
        """
        unique_id = result.unique_id
        build_id = hashlib.sha256(f"{self._invocation} {unique_id}".encode()).hexdigest()[:16]
        self._built[unique_id] = build_id
        if unique_id in self.graph.built_sources.values():
            self._finished[unique_id] = result.finished
        columns = self._columns[unique_id] = self._column_version(unique_id, build_id)
        fingerprint = self.known.fingerprints.get(unique_id)
        window = self.partitions.windows.get(unique_id)
        # The manifest need not have the inputs of the partition.
        is_uncertain = window is not None and unique_id in self.partitions.varying
        is_doubtful = is_uncertain or self.step.key_of[unique_id] in self.history.contended
        is_uncounted = self.request.no_records or is_doubtful
        if is_uncounted or fingerprint is None or self._reads_other_tables(content, node, queries):
            other_rows = {OTHER_ROWS: self.request.other_rows} if self.request.other_rows else {}
            return {**other_rows, **self._before(unique_id, node, build_id)}, build_id
        inputs = self._inputs(result)
        self._tables[unique_id] = build_id, node
        place, cursor = self.places.place(node), self.history.cursor
        codes = read_codes(self.known, inputs, self._built.keys() - {unique_id})
        record = BuildRecord(build_id, fingerprint, place, inputs, cursor, self.known.now, columns, codes)
        if window is not None:
            last, rule = self.known.states.get(unique_id), self.partitions.rule
            series = series_of(record, last, rule, keeps_others=unique_id in self.keeps_others)
            record = replace(record, window=window, series=series)
        return {RECORD: dg.JsonMetadataValue(record.as_json())}, build_id

    def _reads_other_tables(self, content: Mapping[str, Any], node: Mapping[str, Any], queries: Sequence[str]) -> bool:
        """Return whether the compiled SQL of a node may read a table that dbt does not know, and log it."""
        if node["unique_id"] in self.known.always:
            return False
        found = compiled_read(content, node, queries)
        if found:
            doubts = {UNCERTAIN: f"has {UNCERTAIN}", MISSING: MISSING}
            what = doubts.get(found, f"reads {found}, which is neither a ref nor a source")
            self.context.log.info("The next run builds %s again: its compiled SQL %s", node["name"], what)
        return found is not None

    def _before(self, unique_id: str, node: Mapping[str, Any], build_id: str) -> dict[str, Any]:
        """Return the metadata of a build that does not count.

        The rows of an incremental model come from all its builds. If one of them had other code, the next run that
        counts must know it.
        """
        if self.graph.kinds.get(unique_id) != "incremental":
            return {}
        key, code = self.step.key_of[unique_id], self.known.fingerprints.get(unique_id) or ""
        last, warned, place = self.history.last_counted.get(key), self.history.warned.get(key), self.places.place(node)
        if self.request.is_elsewhere or self.places.relation(node) != self.history.relations.get(key):
            return {BEFORE: record_before(last, warned)} if last is not None else {}
        config = self.step.manifest.content["nodes"][unique_id]["config"]
        is_new = (self.request.full_refresh or self.is_refreshed) and config.get("full_refresh") is not False
        if unique_id in self.changed_increments and not is_new:
            code, warned = "", code
        elif last is not None and last.place == place and not is_new:
            return {BEFORE: record_before(last, warned)}
        record = BuildRecord(build_id, code, place, {}, self.history.cursor, self.known.now)
        return {BEFORE: record_before(record, warned)}

    def _inputs(self, result: NodeResult) -> dict[str, str | None]:
        """Return what a build or test has read."""
        before = {node for node, finished in self._finished.items() if _is_before(finished, result.started)}
        found = read_inputs(self.graph, self.known, result.unique_id, self._built, before)
        return dict.fromkeys(found) if self.others.doubt(result.unique_id) else found

    def _column_version(self, unique_id: str, build_id: str) -> str | None:
        """Return the version of a built table's columns, for the views that read it."""
        if unique_id in self.graph.built_sources.values():  # dbt may have built its readers before
            return None
        if self.graph.kinds.get(unique_id) in {"incremental", "seed", "snapshot"} or unique_id in self.known.windowed:
            return build_id
        return column_version(self.graph, self.known, unique_id, self._columns)

    def tested(self, result: NodeResult) -> None:
        """Remember the result of a test."""
        test_version = self.known.test_versions.get(result.unique_id)
        if test_version is not None and not self.request.no_records:
            inputs = self._inputs(result)
            passed = not result.has_failed and not self._has_failed_elsewhere(result.unique_id)
            is_clean, run_id = result.passed, self.context.run_id
            self._tests[result.unique_id] = CheckRecord(passed, is_clean, test_version, inputs, run_id)

    def _has_failed_elsewhere(self, test: str) -> bool:
        """Return whether a test may have failed in another partition, and its tables have not been built since."""
        before = self.known.test_records.get(test)
        if before is None or before.passed or test not in self.partitions.tests:
            return False
        return not self.graph.inputs(test) & {*self.step.nodes.assets.values()} <= self._built.keys()

    def start(self, nodes: AbstractSet[str], tests: AbstractSet[str]) -> None:
        """Mark what is about to be built and tested."""
        self._mark_started(nodes, self._codes(nodes))
        checks = self.step.nodes.check_of
        store_tests(self.context.instance, {checks[test]: None for test in tests if test in checks})

    def _mark_started(self, nodes: AbstractSet[str], codes: Mapping[dg.AssetKey, str]) -> None:
        keys = [self.step.key_of[node] for node in nodes]
        mark_started(self.context.instance, self.context.run_id, self.history, keys, codes)

    def _codes(self, nodes: AbstractSet[str]) -> dict[dg.AssetKey, str]:
        """Return the code with which a killed run may have changed the rows of incremental models."""
        fingerprints, kinds = self.known.fingerprints, self.graph.kinds
        increments = [node for node in nodes if kinds.get(node) == "incremental" and not self.request.is_elsewhere]
        return {
            self.step.key_of[node]: "" if node in self.changed_increments else fingerprints.get(node) or ""
            for node in increments
        }

    def failed(self, unique_id: str) -> None:
        """Remember a node that dbt has not built: its table has no rows of this run."""
        self._failed.add(unique_id)

    def end(self, *, looks_up: bool) -> None:
        """Store the results of the tests, and the tables as they are in the database now.

        Args:
            looks_up: Whether to look up the tables. Those that are not looked up are built again in the next run.
        """
        checks = self.step.nodes.check_of
        instance = self.context.instance
        store_tests(instance, {checks[test]: record for test, record in self._tests.items()})
        if self._failed:
            # The rows are those from before the run.
            keys, before = {self.step.key_of[node] for node in self._failed}, self.history.unfinished
            self._mark_started(self._failed, {key: before[key] for key in keys & before.keys()})
        if not looks_up:
            return
        tables = {**self._tables, **self._known_views()}
        nodes, read = self.step.manifest.content["nodes"], self._read_before(tables)
        looked_up = {one: nodes[one] for one in read - self.others.tables} | {
            one: node for one, (_, node) in tables.items()
        }
        after = Warehouse(self.step, list(looked_up.values()), [], self.context.log)
        if tables:
            doubtful = self._doubtful(tables, after, read)
            relations = {one: after.catalog.relations.get(table_name(node)) for one, (_, node) in tables.items()}
            sure = {one: relation for one, relation in relations.items() if relation and one not in doubtful}
            found = {one: relation.shape for one, relation in sure.items()}
            store_shapes(instance, {self.step.key_of[one]: (tables[one][0], shape) for one, shape in found.items()})
        # Without the state before the run, an older database in its place may not have been noticed.
        if self.warehouse.database is not None and (tables or self.warehouse.is_on_duckdb):
            note_database(instance, after.database, self.places.epoch)

    def _read_before(self, tables: Iterable[str]) -> frozenset[str]:
        """Return the tables and views that builds of this run have read, and that this run has not built."""
        read = frozenset[str]().union(*map(self.graph.inputs, tables)) - self._built.keys()
        return frozenset(one for one in read if self.graph.kinds.get(one) != "source")

    def _doubtful(self, tables: Iterable[str], after: Warehouse, read: AbstractSet[str]) -> set[str]:
        """Return the builds that have read a table which is not as its last build left it, directly or through others.

        Somebody may have replaced it by hand. Views of it, and of its readers, can have columns that nothing records.

        Args:
            tables: The builds, parents first.
            after: The database after the run.
            read: The tables that they have read, and that this run has not built.
        """
        keys = {one: self.step.key_of[one] for one in read}
        shapes = {one: self.history.shapes[key] for one, key in keys.items() if key in self.history.shapes}
        existing = after.existing(read - self.others.tables, self.known.states, shapes)
        if read & self.others.tables:
            existing |= self.others.afterwards().existing(read, self.known.states, shapes)
        doubtful = {one for one in read if not existing.get(one)}
        for one in tables:
            if self.graph.inputs(one) & doubtful:
                doubtful.add(one)
        return doubtful

    def _known_views(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Return the builds of the views that were created again with the code that they had."""
        if self.partitions.windows:  # dbt has created them with the variables of the partitions
            return {}
        nodes, known = self.step.manifest.content["nodes"], self.known
        states = {view: known.states.get(view) for view in self.recreated}
        return {
            view: (state.build_id, nodes[view])
            for view, state in states.items()
            if isinstance(state, BuildRecord) and state.fingerprint == known.fingerprints.get(view)
        }


def _is_before(finished: str, started: str) -> bool:
    """Return whether an end is before a start. Without both times, it is not certain."""
    try:
        end, start = (datetime.fromisoformat(time.replace("Z", "+00:00")) for time in (finished, started))
    except ValueError:
        return False
    return end < start


@contextmanager
def tests_stored(records: BuildRecords | None) -> Iterator[None]:
    """Store the results of a run at the end of the block."""
    looks_up = False  # not if the step is interrupted
    try:
        yield
        looks_up = True
    except Exception:
        looks_up = True
        raise
    finally:
        if records is not None:
            records.end(looks_up=looks_up)
