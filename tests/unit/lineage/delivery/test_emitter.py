"""Delivery of events to a local backend with all kinds of responses."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import LineageError, Problem
from floe_orchestrator_dagster.lineage.delivery.attempts import Deliveries
from floe_orchestrator_dagster.lineage.delivery.backends import Backend
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.json_line import as_json_line
from floe_orchestrator_dagster.lineage.delivery.replay import replay, retry_refused, spool_status
from floe_orchestrator_dagster.lineage.delivery.segment import Segment, waiting_files
from lineage_backend import event, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from lineage_backend import LineageServer

_SECRET = "key-do-not-show"  # noqa: S105  # the value that nothing may show
# As long as it takes where something arrives in the end, however busy the machine is; short where nothing does.
_PATIENT = {"timeout_seconds": 30, "flush_seconds": 60}


def to(url: str, **settings: Any) -> Backend:  # noqa: ANN401  # any setting of a transport
    return Backend("the test", url, {"type": "http", "url": url, "endpoint": "", **settings})


def emitter(url: str, spool: Path, run: str = "", **config: Any) -> LineageEmitter:  # noqa: ANN401  # any key
    return LineageEmitter(to(url), spool, LineageConfig(**{**_PATIENT, **config}), run=run)


def emit(lineage: LineageEmitter, *jobs: str) -> None:
    for job in jobs:
        lineage.emit(event(job))


def replayed(spool: Path, url: str, seconds: float = 60) -> tuple[int, int, int]:
    done = replay(spool, to(url), request_seconds=30, seconds=seconds)
    return done.sent, done.refused, done.waiting


JOBS = [f"job_{number:02}" for number in range(20)]


# --- a backend that answers -----------------------------------------------------------------------------------------


def test_events_arrive_in_their_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path / "spool") as lineage:
        emit(lineage, *JOBS)
        deliveries = lineage.flush()
        lineage.close()

    assert backend.names == JOBS
    assert deliveries == Deliveries(emitted=20, sent=20)
    assert list((tmp_path / "spool").iterdir()) == []


def test_event_arrives_as_it_was_emitted(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        lineage.emit(event("a", "START", tags={"tags": [{"key": "ü", "value": "\n"}]}))
        lineage.emit(b'{"job": {"name": "b"}, "run": {}}')
        lineage.flush()

    first, second = backend.events
    assert (first["eventType"], first["run"]["facets"]) == ("START", {"tags": {"tags": [{"key": "ü", "value": "\n"}]}})
    assert first["outputs"] == [
        {"namespace": "duckdb://shop", "name": "shop.main.a", "facets": {}, "outputFacets": {}},
    ]
    assert second == {"job": {"name": "b"}, "run": {}}
    assert backend.asked == [("/api/v1/lineage", None)] * 2


def test_events_are_sent_during_the_run(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        emit(lineage, "a")
        _until(lambda: backend.names == ["a"])

    assert backend.names == ["a"]


def test_connection_that_the_backend_closes_after_each_response_is_reopened(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path, flush_seconds=20) as lineage:
        backend.keep = False
        emit(lineage, *JOBS)
        deliveries = lineage.flush()

    assert (backend.names, deliveries.sent) == (JOBS, 20)


def test_emitter_without_events_creates_no_files_and_sends_no_requests(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path / "spool") as lineage:
        assert lineage.flush() == Deliveries()

    assert backend.asked == []
    assert not (tmp_path / "spool").exists()


# --- a backend that does not ----------------------------------------------------------------------------------------


def _answers_500(backend: LineageServer) -> None:
    backend.answer = lambda _event: 500


def _redirects(backend: LineageServer) -> None:
    backend.answer = lambda _event: (302, {"Location": "/login"})


def _denies(backend: LineageServer) -> None:
    backend.answer = lambda _event: 401


def _hangs(backend: LineageServer) -> None:
    backend.delay = 60


def _drips(backend: LineageServer) -> None:
    backend.drip = 0.05


def _wants_to_be_left_alone(backend: LineageServer) -> None:
    backend.answer = lambda _event: (429, {"Retry-After": "3600"})


@pytest.mark.parametrize("fault", [_answers_500, _redirects, _denies, _hangs, _drips, _wants_to_be_left_alone])
def test_failing_backend_delays_a_step_within_the_budget_and_gets_every_event_later(
    tmp_path: Path, fault: Callable[[LineageServer], None], caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as backend:
        fault(backend)
        started = time.monotonic()
        with emitter(backend.url, tmp_path, timeout_seconds=0.3, flush_seconds=1.5) as lineage:
            emit(lineage, *JOBS)
            deliveries = lineage.flush()
        elapsed = time.monotonic() - started
        held = list(backend.names)
    with serving(backend.server_port) as mended:
        assert replayed(tmp_path, mended.url) == (20, 0, 0)

    assert (deliveries.sent, deliveries.spooled, deliveries.dropped) == (0, 20, 0)
    assert elapsed < 7.5  # five times the budget, for a busy machine
    assert (held, mended.names) == ([], JOBS)
    [warning] = caplog.records
    assert warning.getMessage().startswith(
        f"Lineage: 20 of 20 events did not reach {backend.url}: 20 waiting in {tmp_path} ("
    )


def test_refused_connection_ends_the_flush_before_the_budget_is_spent(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/api/v1/lineage"
    with emitter(url, tmp_path, flush_seconds=60) as lineage:
        emit(lineage, *JOBS)
        started = time.monotonic()
        deliveries = lineage.flush()

    assert time.monotonic() - started < 30  # half a second where nothing else runs
    assert deliveries.spooled == 20
    assert spool_status(tmp_path).waiting == 20


def test_retry_after_is_respected_when_it_fits_into_the_budget(tmp_path: Path) -> None:
    times: list[float] = []

    def answer(_event: object) -> int | tuple[int, dict[str, str]]:
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}) if len(times) == 1 else 201

    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        backend.answer = answer
        emit(lineage, "a", "b")
        deliveries = lineage.flush()

    assert (backend.names, deliveries.sent) == (["a", "b"], 2)
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("wait", ["99999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_of_years_does_not_end_the_sender(tmp_path: Path, wait: str) -> None:
    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        backend.answer = lambda _event: (429, {"Retry-After": wait})
        emit(lineage, "a")
        deliveries = lineage.flush()
        time.sleep(0.5)  # the time in which it would have died
        running = _sender_runs()

    assert running
    assert (deliveries.emitted, deliveries.spooled, deliveries.dropped) == (1, 1, 0)
    assert len(backend.asked) == 1


_TRANSPORT_THAT_ENDS_ITS_THREAD = """
from openlineage.client.transport import Config, Transport


class Fragile(Transport):
    kind = "fragile"
    config_class = Config
    calls = 0

    def __init__(self, config):
        pass

    def emit(self, event):
        Fragile.calls += 1
        if Fragile.calls == 1:
            raise SystemExit(1)
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the one that ends it
def test_thread_that_a_transport_has_ended_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fragile_transport.py").write_text(_TRANSPORT_THAT_ENDS_ITS_THREAD, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    backend = Backend("the test", "a transport", {"type": "fragile_transport.Fragile"})
    with LineageEmitter(backend, tmp_path / "spool", LineageConfig(timeout_seconds=30, flush_seconds=60)) as lineage:
        emit(lineage, "a")
        _until(lambda: not _sender_runs())
        deliveries = lineage.flush()

    assert deliveries == Deliveries(emitted=1, sent=1)


def test_single_failure_is_retried(tmp_path: Path) -> None:
    answers = iter([503, 201])

    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        backend.answer = lambda _event: next(answers)
        emit(lineage, "a")
        deliveries = lineage.flush()

    assert (backend.names, deliveries) == (["a"], Deliveries(emitted=1, sent=1))


def test_slow_backend_gets_events_within_the_budget_and_the_rest_later(tmp_path: Path) -> None:
    with serving() as backend:
        backend.delay = 0.5
        with emitter(backend.url, tmp_path, flush_seconds=3) as lineage:
            emit(lineage, *JOBS)
            lineage.flush()
        deliveries = lineage.deliveries()
        backend.delay = 0
        sent = replayed(tmp_path, backend.url)[0]

    assert 0 < deliveries.sent < 20
    assert deliveries.sent + sent in {20, 21}  # one acknowledgement may arrive after the emitter has closed
    assert list(dict.fromkeys(backend.names)) == JOBS
    assert len(backend.names) - 20 <= 1


def test_restarted_backend_misses_no_event(tmp_path: Path) -> None:
    with serving() as backend:
        lineage = emitter(backend.url, tmp_path)
        emit(lineage, *JOBS[:10])
        _until(lambda: len(backend.events) >= 5)
    emit(lineage, *JOBS[10:15])
    time.sleep(0.3)
    with serving(backend.server_port) as restarted, lineage:
        emit(lineage, *JOBS[15:])
        deliveries = lineage.flush()

    assert deliveries == Deliveries(emitted=20, sent=20)
    together = backend.names + restarted.names
    assert list(dict.fromkeys(together)) == JOBS
    assert len(together) - 20 <= 1  # the event whose acknowledgement the restart cut off


def test_unusable_backend_keeps_events_until_it_is_usable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fault = LineageError("plugins.lineage_backend", [Problem("type", "no such plugin", "Install it.")])
    with LineageEmitter(fault, tmp_path, LineageConfig()) as lineage:
        emit(lineage, "a", "b")
        deliveries = lineage.flush()
    with serving() as backend:
        assert replayed(tmp_path, backend.url) == (2, 0, 0)

    assert deliveries == Deliveries(emitted=2, pending=2, spooled=2)
    assert "no such plugin\n    fix: Install it." in caplog.text


# --- events that are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 422])
def test_refused_event_is_stored_separately_and_does_not_block_the_others(tmp_path: Path, status: int) -> None:
    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        backend.answer = lambda sent: status if sent["job"]["name"] == "job_03" else 201
        emit(lineage, *JOBS)
        deliveries = lineage.flush()
        lineage.close()

    assert deliveries == Deliveries(emitted=20, sent=19, refused=1)
    assert backend.names == [job for job in JOBS if job != "job_03"]
    [refusal] = spool_status(tmp_path).refused
    assert refusal.reason == f"HTTP {status}: answer {status}, you sent None"
    assert spool_status(tmp_path).waiting == 0


def test_poison_event_with_status_500_is_stored_separately(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        backend.answer = lambda sent: 500 if sent["job"]["name"] == "job_03" else 201
        emit(lineage, *JOBS)
        deliveries = lineage.flush()

    assert deliveries == Deliveries(emitted=20, sent=19, refused=1)
    assert backend.names == [job for job in JOBS if job != "job_03"]


def test_poison_event_that_closes_the_connection_is_stored_separately(tmp_path: Path) -> None:
    def answer(sent: dict[str, Any]) -> int:
        if sent["job"]["name"] == "job_03":
            raise ConnectionError
        return 201

    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        backend.answer = answer
        emit(lineage, *JOBS)
        deliveries = lineage.flush()

    assert deliveries == Deliveries(emitted=20, sent=19, refused=1)
    assert backend.names == [job for job in JOBS if job != "job_03"]


def leave(spool: Path, run: str, *jobs: str) -> None:
    """Let a run end whose events did not arrive."""
    with emitter(f"http://127.0.0.1:{free_port()}", spool, run=run) as lineage:
        emit(lineage, *jobs)


def test_poison_event_at_the_end_of_a_file_does_not_block_later_files(tmp_path: Path) -> None:
    leave(tmp_path, "first", "a", "odd")
    leave(tmp_path, "second", "b")
    leave(tmp_path, "third", "c")
    with serving() as backend:
        backend.answer = lambda sent: 500 if sent["job"]["name"] == "odd" else 201
        assert replayed(tmp_path, backend.url) == (3, 1, 0)

    assert backend.names == ["a", "b", "c"]
    assert [refusal.reason for refusal in spool_status(tmp_path).refused] == ["HTTP 500: answer 500, you sent None"]


def test_no_event_is_stored_separately_when_the_backend_fails_at_every_event(tmp_path: Path) -> None:
    for run in ("first", "second", "third"):
        leave(tmp_path, run, run)
    with serving() as backend:
        backend.answer = lambda _sent: 500
        assert replayed(tmp_path, backend.url) == (0, 0, 3)


def test_poison_event_of_an_earlier_step_does_not_block_the_run(tmp_path: Path) -> None:
    leave(tmp_path, "run", "odd")
    with serving() as backend, emitter(backend.url, tmp_path, run="run") as lineage:
        backend.answer = lambda sent: 500 if sent["job"]["name"] == "odd" else 201
        emit(lineage, "a", "b")
        deliveries = lineage.flush()

    assert (backend.names, deliveries) == (["a", "b"], Deliveries(emitted=2, sent=2))
    assert spool_status(tmp_path).waiting == 1


def test_refused_events_can_be_sent_again(tmp_path: Path) -> None:
    with serving() as backend:
        backend.answer = lambda _event: 400
        with emitter(backend.url, tmp_path) as lineage:
            emit(lineage, *JOBS)
            lineage.flush()
        backend.answer = lambda _event: 201
        assert retry_refused(tmp_path) == 20
        assert replayed(tmp_path, backend.url) == (20, 0, 0)

    assert backend.names == JOBS
    assert list(tmp_path.iterdir()) == []


# --- consequences of failures ---------------------------------------------------------------------------------------


def test_strict_makes_an_undelivered_event_an_error(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/api/v1/lineage"
    with emitter(url, tmp_path, strict=True) as lineage:
        emit(lineage, "a")
        with pytest.raises(LineageError) as raised:
            lineage.flush()

    assert str(raised.value) == (
        "OpenLineage (plugins.orchestrator.config.lineage.strict is true): 1 problem\n"
        f"  1 of 1 events did not reach {url}: 1 waiting in {tmp_path} (connection refused)\n"
        "    fix: The code location's lineage sensor sends them later; `floe-dagster lineage replay` sends them now."
    )
    assert spool_status(tmp_path).waiting == 1


def test_strict_counts_a_refused_event_as_undelivered(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path, strict=True) as lineage:
        backend.answer = lambda _event: 400
        emit(lineage, "a")
        with pytest.raises(LineageError, match="1 refused and kept there"):
            lineage.flush()


def test_strict_succeeds_when_all_events_are_delivered(tmp_path: Path) -> None:
    with serving() as backend, emitter(backend.url, tmp_path, strict=True) as lineage:
        emit(lineage, "a")
        assert lineage.flush().complete


def test_invalid_event_is_dropped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        lineage.emit(b"{no json")
        emit(lineage, "a")
        deliveries = lineage.flush()

    assert deliveries == Deliveries(emitted=2, sent=1, dropped=1)
    assert "1 lost (an event was not stored (JSONDecodeError" in caplog.text


# --- the disk -------------------------------------------------------------------------------------------------------


def test_files_are_private(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    spool = tmp_path / "spool"
    with emitter(url, spool) as lineage:
        emit(lineage, "a")
        lineage.flush()

        assert spool.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in spool.iterdir()} == {0o600}


def test_directory_that_others_can_read_is_restricted(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with emitter(f"http://127.0.0.1:{free_port()}", tmp_path) as lineage:
        emit(lineage, "a")

    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_unwritable_spool_is_one_warning_and_events_are_sent_from_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no directory", encoding="utf-8")
    with serving() as backend, emitter(backend.url, tmp_path / "file" / "spool") as lineage:
        emit(lineage, *JOBS)
        deliveries = lineage.flush()

    assert (backend.names, deliveries) == (JOBS, Deliveries(emitted=20, sent=20))
    [warning] = caplog.records
    assert warning.getMessage() == (
        f"Lineage: {tmp_path / 'file' / 'spool'} cannot be written (Not a directory). Events are now sent from memory; "
        "those that the backend does not accept are lost. Let the user that runs Dagster write it, free disk space, or "
        "set lineage.spool_dir to another directory."
    )


def test_events_are_counted_as_lost_when_neither_disk_nor_backend_accepts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no directory", encoding="utf-8")
    with emitter(f"http://127.0.0.1:{free_port()}", tmp_path / "file" / "spool") as lineage:
        emit(lineage, "a", "b")
        deliveries = lineage.flush()
        lineage.close()

        assert (deliveries.pending, deliveries.spooled, deliveries.dropped) == (2, 0, 0)
        assert lineage.deliveries().dropped == 2
    assert caplog.records[-1].levelno == logging.ERROR
    assert "2 events are lost" in caplog.records[-1].getMessage()


def test_full_disk_keeps_stored_events_and_others_are_sent_from_memory(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path, "")
    segment.append(as_json_line(event("first")))
    before = segment.path.read_bytes()
    _limit_file_size(len(before) + 10)
    try:
        with pytest.raises(OSError, match="File too large"):
            segment.append(as_json_line(event("second")))
    finally:
        _limit_file_size(None)

    assert segment.path.read_bytes() == before
    segment.append(as_json_line(event("third")))
    segment.close()
    with serving() as backend:
        assert replayed(tmp_path, backend.url) == (2, 0, 0)
    assert backend.names == ["first", "third"]


def _limit_file_size(size: int | None) -> None:
    """Let this process write files of ``size`` bytes only, as a full disk would."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def test_full_disk_is_one_warning_and_events_keep_their_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving() as backend, emitter(backend.url, tmp_path) as lineage:
        backend.delay = 0.01
        _limit_file_size(3000)
        try:
            emit(lineage, *JOBS)
            deliveries = lineage.flush()
        finally:
            _limit_file_size(None)

    assert backend.names == JOBS
    assert deliveries == Deliveries(emitted=20, sent=20)
    [warning] = caplog.records
    assert warning.getMessage().startswith(
        f"Lineage: {tmp_path} cannot be written (File too large). Events are now sent "
    )


def test_event_after_close_is_dropped(tmp_path: Path) -> None:
    lineage = emitter(f"http://127.0.0.1:{free_port()}", tmp_path)
    lineage.close()
    lineage.close()
    emit(lineage, "a")

    assert lineage.deliveries() == Deliveries(emitted=1, dropped=1)


def test_size_is_bounded_with_a_warning_before_anything_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    big = "x" * 50_000
    with emitter(f"http://127.0.0.1:{free_port()}", tmp_path, spool_max_mb=1) as lineage:
        for _ in range(25):
            lineage.emit(event("a", documentation={"description": big}))
        deliveries = lineage.flush()

    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 1024 * 1024
    assert deliveries.pending == 25
    assert deliveries.spooled == spool_status(tmp_path).waiting < 25
    first, second = (record.getMessage() for record in caplog.records[:2])
    assert first.startswith(f"Lineage: {tmp_path} is nearly full (lineage.spool_max_mb)")
    assert second.startswith(f"Lineage: {tmp_path} has reached lineage.spool_max_mb. Events are now sent from memory")


def test_files_are_rotated_and_delivered_ones_removed_during_the_run(tmp_path: Path) -> None:
    big = "x" * 100_000
    with serving() as backend, emitter(backend.url, tmp_path, spool_max_mb=4) as lineage:
        for number in range(60):
            lineage.emit(event(f"job_{number}", documentation={"description": big}))
            _until(partial(lambda least: len(backend.events) >= least, number - 4))
        lineage.flush()
        size = sum(path.stat().st_size for path in tmp_path.iterdir())

    assert len(backend.events) == 60
    assert size < 2 * 1024 * 1024


def test_no_credential_is_stored_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving() as backend:
        backend.answer = lambda sent: 400 if sent["job"]["name"] == "a" else 500
        url = backend.url.replace("http://", f"http://user:{_SECRET}@") + f"?token={_SECRET}"
        target = replace(to(url, auth={"type": "api_key", "apiKey": _SECRET}), shown="shown")
        with LineageEmitter(target, tmp_path, LineageConfig(timeout_seconds=0.3, flush_seconds=1.5)) as lineage:
            emit(lineage, "a", "b")
            lineage.flush()
            stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            shown = f"{lineage!r}{vars(lineage)}{target!r}{target.open(1)!r}{caplog.text}"

    assert backend.asked[0] == (f"/api/v1/lineage?token={_SECRET}", f"Bearer {_SECRET}")
    assert _SECRET not in shown
    assert _SECRET.encode() not in stored


# --- order and leftovers --------------------------------------------------------------------------------------------


def test_pending_events_of_earlier_steps_are_sent_first(tmp_path: Path) -> None:
    run = "0f6a3f1e-run"
    dead = f"http://127.0.0.1:{free_port()}"
    for left_by, job in (("another", "other"), (run, "start_of_product")):
        with emitter(dead, tmp_path, run=left_by) as lineage:
            emit(lineage, job)
            lineage.flush()
    with serving() as backend, emitter(backend.url, tmp_path, run=run) as lineage:
        emit(lineage, "end_of_product")
        deliveries = lineage.flush()
        lineage.close()

    assert backend.names == ["start_of_product", "end_of_product"]
    assert deliveries == Deliveries(emitted=1, sent=1)
    assert spool_status(tmp_path).waiting == 1


def test_incomplete_last_line_is_stored_separately(tmp_path: Path) -> None:
    with emitter(f"http://127.0.0.1:{free_port()}", tmp_path) as lineage:
        emit(lineage, *JOBS[:3])
        lineage.flush()
    [path] = waiting_files(tmp_path)
    os.truncate(path, path.stat().st_size - 10)
    with serving() as backend:
        assert replayed(tmp_path, backend.url) == (2, 0, 0)

    assert backend.names == JOBS[:2]
    [refusal] = spool_status(tmp_path).refused
    assert refusal.reason == "the line is incomplete, because of a crash of the machine or a full disk"


def test_last_line_that_only_lacks_its_newline_is_sent(tmp_path: Path) -> None:
    with emitter(f"http://127.0.0.1:{free_port()}", tmp_path) as lineage:
        emit(lineage, *JOBS[:3])
        lineage.flush()
    [path] = waiting_files(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    with serving() as backend:
        assert replayed(tmp_path, backend.url) == (3, 0, 0)

    assert backend.names == JOBS[:3]


def test_replay_leaves_files_of_running_processes_alone(tmp_path: Path) -> None:
    with emitter(f"http://127.0.0.1:{free_port()}", tmp_path) as lineage, serving() as backend:
        emit(lineage, "a")
        assert replayed(tmp_path, backend.url) == (0, 0, 0)
        assert spool_status(tmp_path).in_progress == 1


def test_replay_ends_in_time_at_a_backend_that_hangs(tmp_path: Path) -> None:
    with emitter(f"http://127.0.0.1:{free_port()}", tmp_path) as lineage:
        emit(lineage, *JOBS)
        lineage.flush()
    with serving() as backend:
        backend.delay = 60
        started = time.monotonic()
        done = replay(tmp_path, to(backend.url), request_seconds=0.3, seconds=1)

    assert time.monotonic() - started < 10  # one answer alone would take 60
    assert (done.sent, done.waiting, done.reason) == (0, 20, "no answer within 0.3 s")


def _sender_runs() -> bool:
    return any(thread.name == "lineage" for thread in threading.enumerate())


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
