"""Delivery of lineage between processes: killed ones, and several at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from floe_orchestrator_dagster.lineage.delivery.backends import Backend
from floe_orchestrator_dagster.lineage.delivery.replay import replay, spool_status
from lineage_backend import free_port, serving
from processes import clean_environment, floe_dagster
from unit.samples import contract, model

# Emits its events, prints a line, and then waits until it is killed or, with a last argument, for input.
_EMIT = """
import sys
from pathlib import Path
from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.backends import Backend
from lineage_backend import event
url, spool, name, count = sys.argv[1:]
backend = Backend("test", url, {"type": "http", "url": url, "endpoint": ""})
with LineageEmitter(backend, Path(spool), LineageConfig(flush_seconds=0)) as lineage:
    for number in range(int(count)):
        lineage.emit(event(f"{name}_{number:03}"))
    print("emitted", flush=True)
    sys.stdin.read()
"""
# Emits in several lives, each of which leaves most of its events, and replays after each what it finds.
_EMIT_AND_REPLAY = """
import sys
from pathlib import Path
from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.replay import replay
from floe_orchestrator_dagster.lineage.delivery.backends import Backend
from lineage_backend import event
url, spool, name = sys.argv[1:]
backend = Backend("test", url, {"type": "http", "url": url, "endpoint": ""})
print("emitted", flush=True)
sys.stdin.readline()
for life in range(10):
    with LineageEmitter(backend, Path(spool), LineageConfig(flush_seconds=0)) as lineage:
        for number in range(50):
            lineage.emit(event(f"{name}_{life * 50 + number:03}"))
    replay(Path(spool), backend, request_seconds=30, seconds=60)
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
    process.communicate(timeout=300)
    assert process.returncode == 0


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Write a product whose endpoint is a free port; its spool is in ``spool``."""
    path = tmp_path / "compiled_artifacts.json"
    config = {"lineage": {"spool_dir": str(tmp_path / "spool"), "timeout_seconds": 30}}
    content = contract(model("a"), config=config)
    content["observability"] |= {"lineage": True, "lineage_endpoint": f"http://127.0.0.1:{free_port()}/api/v1/lineage"}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


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
        deadline = time.monotonic() + 60
        while len(backend.events) < 20 and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        backend.delay = 0
        waiting = spool_status(tmp_path).waiting
        replay(tmp_path, _to(backend.url), request_seconds=30, seconds=60)

    assert 0 < waiting <= 81
    assert list(dict.fromkeys(backend.names)) == names("killed", 100)
    assert len(backend.repeated) <= 1


def test_processes_that_emit_and_replay_at_once_neither_lose_nor_repeat(tmp_path: Path) -> None:
    answers = 0

    def answer(_event: object) -> int:
        nonlocal answers
        answers += 1
        return 503 if answers % 50 == 0 else 201

    with serving() as backend:
        backend.answer = answer
        processes = [start(_EMIT_AND_REPLAY, backend.url, tmp_path, name) for name in ("one", "two")]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            end(process)
        backend.answer = lambda _event: 201
        done = replay(tmp_path, _to(backend.url), request_seconds=30, seconds=60)

    assert done.waiting == 0
    assert backend.repeated == []
    assert sorted(backend.names) == names("one", 500) + names("two", 500)


def _to(url: str) -> Backend:
    return Backend("the test", url, {"type": "http", "url": url, "endpoint": ""})
