"""Delivery of lineage between processes: killed ones, several at once, the command line and the sensor afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.automation.lineage import lineage_replay_sensor
from floe_orchestrator_dagster.lineage.replay import replay, spool_status
from floe_orchestrator_dagster.lineage.transport import Backend
from floe_orchestrator_dagster.product import load_product
from lineage_backend import free_port, serving
from processes import clean_environment, floe_dagster
from unit.samples import contract, model

if TYPE_CHECKING:
    from collections.abc import Iterator

# Emits its events, says so, and then waits to be killed or, with a last argument, to be told to end.
_EMIT = """
import sys
from pathlib import Path
from floe_orchestrator_dagster.config.lineage import LineageConfig
from floe_orchestrator_dagster.lineage.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.transport import Backend
from lineage_backend import event
url, spool, name, count = sys.argv[1:]
backend = Backend("test", url, {"type": "http", "url": url, "endpoint": ""})
with LineageEmitter(backend, Path(spool), LineageConfig(flush_seconds=0)) as lineage:
    for number in range(int(count)):
        lineage.emit(event(f"{name}_{number:03}"))
    print("emitted", flush=True)
    sys.stdin.read()
"""
_REPLAY = """
import sys
from pathlib import Path
from floe_orchestrator_dagster.lineage.replay import replay
from floe_orchestrator_dagster.lineage.transport import Backend
url, spool = sys.argv[1:]
backend = Backend("test", url, {"type": "http", "url": url, "endpoint": ""})
print("emitted", flush=True)
for _ in range(40):
    replay(Path(spool), backend, request_seconds=1, seconds=5)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process and wait until it has emitted."""
    tests = str(Path(__file__).parent.parent)
    python_path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=clean_environment(PYTHONPATH=python_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "emitted\n"
    return process


def names(name: str, count: int) -> list[str]:
    return [f"{name}_{number:03}" for number in range(count)]


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Write a product whose endpoint is a free port; its spool is in ``spool``."""
    path = tmp_path / "compiled_artifacts.json"
    config = {"lineage": {"spool_dir": str(tmp_path / "spool"), "timeout_seconds": 1}}
    content = contract(model("a"), config=config)
    content["observability"] |= {"lineage": True, "lineage_endpoint": f"http://127.0.0.1:{free_port()}/api/v1/lineage"}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def _endpoint(artifacts: Path) -> str:
    return str(json.loads(artifacts.read_text(encoding="utf-8"))["observability"]["lineage_endpoint"])


def _port(artifacts: Path) -> int:
    return int(_endpoint(artifacts).split(":")[2].split("/")[0])


def _spool(artifacts: Path) -> Path:
    return artifacts.parent / "spool" / "shop-orders"


def test_events_of_a_killed_process_are_shown_and_sent_by_the_command_line(artifacts: Path) -> None:
    process = start(_EMIT, _endpoint(artifacts), _spool(artifacts), "killed", 50)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    status = floe_dagster("lineage", "status", str(artifacts), "--json", check=False)
    with serving(_port(artifacts)) as backend:
        sent = floe_dagster("lineage", "replay", str(artifacts))
    clean = floe_dagster("lineage", "status", str(artifacts))

    shown = json.loads(status.stdout)
    assert (status.returncode, shown["waiting"], shown["in_progress"], shown["refused"]) == (1, 50, 0, [])
    assert sent.stdout == f"50 sent to {_endpoint(artifacts)}, 0 refused, 0 waiting\n"
    assert backend.names == names("killed", 50)
    assert clean.stdout == (
        f"{_spool(artifacts)}: 0.0 of 256 MB\n  waiting      0\n  in progress  0\n  refused      0\n"
    )


def test_process_killed_between_two_events_repeats_at_most_the_one_whose_answer_it_missed(tmp_path: Path) -> None:
    with serving() as backend:
        backend.delay = 0.02
        process = start(_EMIT, backend.url, tmp_path, "killed", 100)
        deadline = time.monotonic() + 10
        while len(backend.events) < 20 and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        backend.delay = 0
        waiting = spool_status(tmp_path).waiting
        replay(tmp_path, _to(backend.url), request_seconds=1, seconds=10)

    assert 0 < waiting <= 80
    assert list(dict.fromkeys(backend.names)) == names("killed", 100)
    assert len(backend.repeated) <= 1


def test_processes_that_emit_and_replay_at_once_neither_lose_nor_repeat(tmp_path: Path) -> None:
    answers = 0

    def answer(_event: object) -> int:
        nonlocal answers
        answers += 1
        return 503 if answers % 7 == 0 else 201

    with serving() as backend:
        backend.answer = answer
        emitting = [start(_EMIT, backend.url, tmp_path, name, 300) for name in ("one", "two")]
        replaying = [start(_REPLAY, backend.url, tmp_path) for _ in range(2)]
        for process in [*emitting, *replaying]:
            end(process)
        backend.answer = lambda _event: 201
        done = replay(tmp_path, _to(backend.url), request_seconds=1, seconds=10)

    assert done.waiting == 0
    assert backend.repeated == []
    for name in ("one", "two"):
        assert [job for job in backend.names if job.startswith(name)] == names(name, 300)


def test_command_line_says_what_still_waits_and_what_was_refused(artifacts: Path) -> None:
    end(start(_EMIT, _endpoint(artifacts), _spool(artifacts), "left", 3))
    down = floe_dagster("lineage", "replay", str(artifacts), "--seconds", "5", check=False)
    with serving(_port(artifacts)) as backend:
        backend.answer = lambda sent: 400 if sent["job"]["name"] == "left_001" else 201
        refused = floe_dagster("lineage", "replay", str(artifacts), "--json", check=False)
        status = floe_dagster("lineage", "status", str(artifacts), check=False)
        backend.answer = lambda _sent: 201
        again = floe_dagster("lineage", "replay", "--refused", str(artifacts))

    address = _endpoint(artifacts)
    assert (down.returncode, down.stdout) == (1, f"0 sent to {address}, 0 refused, 3 waiting\n")
    assert down.stderr == f"warning: {address}: connection refused\n"
    assert refused.returncode == 1
    assert json.loads(refused.stdout) == {
        "backend": address,
        "directory": str(_spool(artifacts)),
        "sent": 2,
        "refused": 1,
        "waiting": 0,
        "reason": "HTTP 400: answer 400, you sent None",
    }
    assert status.returncode == 1
    assert "  refused      1\n" in status.stdout
    assert "  HTTP 400: answer 400, you sent None\n      in " in status.stdout
    assert again.stdout == f"1 sent to {address}, 0 refused, 0 waiting\n"
    assert backend.names == ["left_000", "left_002", "left_001"]
    assert list(_spool(artifacts).iterdir()) == []


def test_sensor_sends_what_waits(artifacts: Path, instance: dg.DagsterInstance) -> None:
    sensor = lineage_replay_sensor(load_product(artifacts))
    assert sensor is not None
    assert _tick(sensor, instance) == "No lineage events wait."
    end(start(_EMIT, _endpoint(artifacts), _spool(artifacts), "left", 3))

    started = time.monotonic()
    down = _tick(sensor, instance)
    elapsed = time.monotonic() - started
    with serving(_port(artifacts)) as backend:
        sent = _tick(sensor, instance)

    address = _endpoint(artifacts)
    assert down == f"Lineage: 0 events sent to {address}, 0 refused, 3 waiting. connection refused"
    assert elapsed < 12
    assert sent == f"Lineage: 3 events sent to {address}, 0 refused, 0 waiting."
    assert backend.names == names("left", 3)
    assert (sensor.name, sensor.default_status) == ("shop_orders_lineage_replay", dg.DefaultSensorStatus.RUNNING)


def _tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> str | None:
    with dg.build_sensor_context(instance=instance) as context:
        ticked = sensor.evaluate_tick(context)
    assert ticked.run_requests == []
    return ticked.skip_message


def _to(url: str, **settings: Any) -> Backend:  # noqa: ANN401  # any setting of a transport
    return Backend("the test", url, {"type": "http", "url": url, "endpoint": "", **settings})
