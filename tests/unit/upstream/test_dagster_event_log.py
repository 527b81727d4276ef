"""Dagster's SQLite event log, kept open while a step runs: the same rows, in fewer connections.

Annotations are evaluated in this module: Dagster wants the context's type itself, not its name.
"""

import logging
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SecondaryIndexMigrationTable
from sqlalchemy import delete
from sqlalchemy.engine import Engine
from sqlalchemy.event import listen, remove

from floe_orchestrator_dagster.upstream import patches
from floe_orchestrator_dagster.upstream.dagster_event_log import open_event_log

_COLUMNS = {
    "event_logs": "dagster_event_type, step_key, asset_key, partition",
    "asset_keys": "asset_key, last_run_id is not null, last_materialization is not null",
    "asset_check_executions": "asset_key, check_name, execution_status, materialization_event_storage_id",
    "asset_event_tags": "event_id, asset_key, key",
}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def _assets(*, open_log: bool, failing: bool = False) -> dg.AssetsDefinition:
    names = [f"asset_{number}" for number in range(3)]

    @dg.multi_asset(
        name="build",
        specs=[dg.AssetSpec(name, skippable=True) for name in names],
        check_specs=[dg.AssetCheckSpec("fine", asset=name) for name in names],
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with open_event_log(context.instance) if open_log else nullcontext():
            for name in names:
                yield dg.Output(None, output_name=name, metadata={"rows": 3})
                context.log.info("built %s", name)
                yield dg.AssetCheckResult(passed=name != "asset_1", asset_key=name, check_name="fine")
            if failing:
                raise dg.Failure("the database is gone")

    return build


def _rows(directory: Path) -> dict[str, list[Any]]:
    """Read what both of the event log's databases hold, without what differs from run to run."""
    rows: dict[str, list[Any]] = {}
    for path in sorted(directory.glob("**/runs/*.db")):
        connection = sqlite3.connect(path)
        for table, columns in _COLUMNS.items():
            found = connection.execute(f"select {columns} from {table} order by 1, 2, 3").fetchall()  # noqa: S608
            rows[f"{'index' if path.stem == 'index' else 'run'} {table}"] = found
        connection.close()
    return rows


@pytest.mark.parametrize("failing", [False, True])
def test_run_writes_the_same_rows(tmp_path: Path, *, failing: bool) -> None:
    written = []
    for open_log in (False, True):
        directory = tmp_path / str(open_log)
        directory.mkdir()
        with dg.DagsterInstance.local_temp(str(directory)) as instance:
            result = dg.materialize(
                [_assets(open_log=open_log, failing=failing)], instance=instance, raise_on_error=False
            )
            assert result.success is not failing
        written.append(_rows(directory))

    assert written[0] == written[1]
    assert len(written[1]["index asset_check_executions"]) == 3
    assert len(written[1]["index asset_keys"]) == 3


def _connections(tmp_path: Path, *, open_log: bool) -> int:
    """Count the connections that a run makes to its event log's databases."""
    made: list[str] = []

    def note(connection: sqlite3.Connection, _record: object) -> None:
        made.extend(row[2] for row in connection.execute("pragma database_list"))

    listen(Engine, "connect", note)
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            dg.materialize([_assets(open_log=open_log)], instance=instance)
    finally:
        remove(Engine, "connect", note)
    return sum(bool(re.search(r"/runs/", path)) for path in made)


def test_databases_are_opened_once_while_it_lasts(tmp_path: Path) -> None:
    (tmp_path / "stock").mkdir()
    (tmp_path / "kept").mkdir()

    stock = _connections(tmp_path / "stock", open_log=False)
    kept = _connections(tmp_path / "kept", open_log=True)

    # The rest is what Dagster writes before and after the step.
    assert kept < stock - 25


def test_a_migration_is_asked_for_until_it_is_made(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    assert isinstance(storage, SqliteEventLogStorage)
    asked = []

    with open_event_log(instance):
        asked.append(storage.has_secondary_index("some_migration"))
        storage.enable_secondary_index("some_migration")
        asked.append(storage.has_secondary_index("some_migration"))
        with storage.index_connection() as connection:
            connection.execute(delete(SecondaryIndexMigrationTable))
        asked.append(storage.has_secondary_index("some_migration"))

    assert asked == [False, True, True]
    assert not storage.has_secondary_index("some_migration")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists a process' open files on Linux only")
def test_databases_are_closed_at_its_end(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    def opened() -> list[str]:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
        return [str(link.readlink()) for link in links if str(link.readlink()).startswith(str(tmp_path))]

    with open_event_log(instance):
        instance.report_runless_asset_event(dg.AssetMaterialization("orders"))
        assert any("index.db" in path for path in opened())
    assert opened() == []
    assert instance.get_latest_materialization_event(dg.AssetKey("orders")) is not None


def test_threads_take_turns(instance: dg.DagsterInstance) -> None:
    def report(number: int) -> None:
        for _ in range(5):
            instance.report_runless_asset_event(dg.AssetMaterialization(f"asset_{number}"))

    with open_event_log(instance), open_event_log(instance):
        threads = [threading.Thread(target=report, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    counts = [len(instance.fetch_materializations(dg.AssetKey(f"asset_{n}"), limit=10).records) for n in range(4)]
    assert counts == [5, 5, 5, 5]


def test_threads_may_end_while_others_go_on(instance: dg.DagsterInstance) -> None:
    """The first context that opens it closes it, also while others are open."""
    opened, closed = threading.Event(), threading.Event()

    def second() -> None:
        with open_event_log(instance):
            opened.set()
            closed.wait(10)
            instance.report_runless_asset_event(dg.AssetMaterialization("late"))

    with open_event_log(instance):
        thread = threading.Thread(target=second)
        thread.start()
        assert opened.wait(10)
    closed.set()
    thread.join()

    assert instance.get_latest_materialization_event(dg.AssetKey("late")) is not None
    assert not {"_connect", "has_table"} & vars(instance.event_log_storage).keys()


def test_watchers_of_a_run_receive_its_events_at_once(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """As the run's page does, in another process with another instance."""
    run = dg.materialize([_assets(open_log=False)], instance=instance).dagster_run
    seen, is_seen = list[str](), threading.Event()

    def note(entry: dg.EventLogEntry, _cursor: str) -> None:
        seen.append(entry.message)
        is_seen.set()

    with dg.DagsterInstance.from_config(str(tmp_path)) as page, open_event_log(instance):
        instance.report_engine_event("the first opens the database", run)
        last = instance.get_records_for_run(run.run_id).cursor
        page.watch_event_logs(run.run_id, last, note)
        try:
            for number in range(3):
                is_seen.clear()
                instance.report_engine_event(f"event {number}", run)
                assert is_seen.wait(20), seen
        finally:
            page.end_watch_event_logs(run.run_id, note)

    assert seen == ["event 0", "event 1", "event 2"]


def test_other_event_logs_are_left_as_they_are() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        before = dict(vars(instance.event_log_storage))
        with open_event_log(instance):
            assert vars(instance.event_log_storage) == before


def test_event_log_that_opens_its_databases_otherwise_is_left_as_it_is(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "_states", {})
    storage = instance.event_log_storage
    del vars(storage)["_initialized_dbs"]
    before = dict(vars(storage))

    with caplog.at_level(logging.INFO), open_event_log(instance):
        assert vars(storage) == before

    said = [record.message for record in caplog.records if record.name.endswith("patches")]
    assert said == [
        (
            "Patch event-log is not used: SqliteEventLogStorage has no _initialized_dbs. "
            "Dagster opens the database for each statement, which takes longer."
        )
    ]
