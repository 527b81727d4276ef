"""Lineage delivery: what 1,000 events cost a step, against a real HTTP server that answers in every way there is.

The server is a process of its own; so is each measurement. Printed as a table: seconds that emitting adds to the step,
seconds that the flush at its end adds, what became of the events, and whether the server holds each of them after a
replay. A second table emits at the pace of a run (two events per model) and compares with the same run without lineage.
With ``--product`` a real product is run instead, in turns without lineage and with each of the backends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

EVENTS = 1000
COLUMNS = 15
MODELS = 100
ROUNDS = 3
SECONDS_PER_MODEL = 0.1  # dbt with Dagster takes longer: 139 s for 1,200 nodes (docs/lineage-delivery.md)
REAL_FAULTS = ("answers", "1 s each", "hangs", "drips", "refuses")
FAULTS = ("answers", "500", "429", "400", "1 s each", "hangs", "drips", "refuses")


def main() -> None:
    """Measure every behaviour of a backend, then a run at its own pace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", metavar="FAULT", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, metavar=("URL", "SPOOL"), help=argparse.SUPPRESS)
    parser.add_argument("--run", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--product", metavar="DIRECTORY", help="run the prepared product in a copy of this directory")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often the product is run in each way")
    parser.add_argument("--build", nargs=2, metavar=("URL", "DIRECTORY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.port)
    elif arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
    elif arguments.run is not None:
        print(json.dumps(run(arguments.run)))
    elif arguments.build:
        print(json.dumps(build(*arguments.build)))
    elif arguments.product:
        print_product(Path(arguments.product), arguments.rounds)
    else:
        print_faults()
        print_run()


def print_faults() -> None:
    print("| backend | emit (s) | flush (s) | sent | waiting | refused | after replay | repeated |")
    print("|---|---|---|---|---|---|---|---|")
    for fault in FAULTS:
        with tempfile.TemporaryDirectory(prefix="floe-bench-") as spool:
            port = free_port()
            url = f"http://127.0.0.1:{port}/api/v1/lineage"
            if fault == "refuses":
                measured = child("--measure", url, spool)
                held: list[str] = []
            else:
                with Server(fault, port) as server:
                    measured = child("--measure", url, spool)
                    held = server.held()
            with Server("answers", port) as server:
                replay(url, spool, with_refused=fault == "400")
                held += server.held()
        repeated = sum(count - 1 for count in Counter(held).values())
        numbers = [measured["sent"], measured["spooled"], measured["refused"], len(set(held)), repeated]
        shown = " | ".join(map(str, numbers))
        print(f"| {fault} | {measured['emit']:.2f} | {measured['flush']:.2f} | {shown} |", flush=True)


def print_run() -> None:
    print("\n| run | wall (s) | CPU (s) |\n|---|---|---|")
    port = free_port()
    with Server("answers", port) as server:
        urls = {"without lineage": "", "with lineage": server.url}
        rounds = [{name: child("--run", url) for name, url in urls.items()} for _ in range(ROUNDS)]
        held = server.held()
    walls = {name: statistics.median(one[name]["wall"] for one in rounds) for name in urls}
    for name, wall in walls.items():
        print(f"| {name} | {wall:.2f} | {statistics.median(one[name]['cpu'] for one in rounds):.2f} |")
    added = walls["with lineage"] / walls["without lineage"] - 1
    print(
        f"\n{2 * MODELS} events a run, {len(held)} of {2 * MODELS * ROUNDS} held by the server; wall time {added:+.2%}"
    )


def print_product(product: Path, rounds: int) -> None:
    print("| backend | run (s) | held up by lineage (s) | share | events | sent |\n|---|---|---|---|---|---|")
    ways = ["none", *(fault for fault in FAULTS if fault in REAL_FAULTS)]
    measured: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            port = free_port()
            url = "" if way == "none" else f"http://127.0.0.1:{port}/api/v1/lineage"
            with tempfile.TemporaryDirectory(prefix="floe-bench-") as scratch, ExitStack() as stack:
                copy = shutil.copytree(product, Path(scratch, "product"))
                if url and way != "refuses":
                    stack.enter_context(Server(way, port))
                measured[way].append(child("--build", url, str(copy)))
                print(way, measured[way][-1], file=sys.stderr, flush=True)
    for way, runs in measured.items():
        wall, held = (statistics.median(one[name] for one in runs) for name in ("wall", "held"))
        print(f"| {way} | {wall:.1f} | {held:.2f} | {held / wall:.1%} | {runs[0]['emitted']} | {runs[0]['sent']} |")


def child(*arguments: str) -> dict[str, Any]:
    result = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


# --- in the measuring process ---------------------------------------------------------------------------------------


def measure(url: str, spool: str) -> dict[str, float]:
    """Emit all events at once, as a step does in the worst case, and flush."""
    from floe_orchestrator_dagster.config.lineage import LineageConfig
    from floe_orchestrator_dagster.lineage.emitter import LineageEmitter

    events = [event(number) for number in range(EVENTS)]
    lineage = LineageEmitter(backend(url), Path(spool), LineageConfig())
    started = time.perf_counter()
    for one in events:
        lineage.emit(one)
    emitted = time.perf_counter()
    deliveries = lineage.flush()
    lineage.close()
    flushed = time.perf_counter()
    return {**vars(deliveries), "emit": emitted - started, "flush": flushed - emitted}


def run(url: str) -> dict[str, float]:
    """Wait for as long as models take, with two events for each; with an empty URL, without events."""
    from floe_orchestrator_dagster.config.lineage import LineageConfig
    from floe_orchestrator_dagster.lineage.emitter import LineageEmitter

    with tempfile.TemporaryDirectory(prefix="floe-bench-") as spool:
        lineage = LineageEmitter(backend(url), Path(spool), LineageConfig()) if url else None
        events = [event(number) for number in range(2 * MODELS)]
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(0, 2 * MODELS, 2):
            if lineage:
                lineage.emit(events[number])
            time.sleep(SECONDS_PER_MODEL)
            if lineage:
                lineage.emit(events[number + 1])
        if lineage:
            lineage.flush()
            lineage.close()
        return {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}


def build(url: str, directory: str) -> dict[str, float]:
    """Run a product's job and add up what its steps spend in lineage; an upper bound, as dbt goes on meanwhile."""
    import dagster as dg

    from floe_orchestrator_dagster.code_location import definitions_from_file
    from floe_orchestrator_dagster.execution.lineage import StepLineage
    from floe_orchestrator_dagster.execution.product_lineage import ProductRun
    from floe_orchestrator_dagster.lineage.emitter import LineageEmitter

    os.environ |= {"FLOE_STATE_DIR": str(Path(directory, "state")), "DAGSTER_DISABLE_TELEMETRY": "true"}
    path = Path(directory, "compiled_artifacts.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["observability"] |= {"lineage": bool(url), "lineage_endpoint": url or None}
    path.write_text(json.dumps(content), encoding="utf-8")
    held: list[float] = []
    emitters: list[LineageEmitter] = []
    for kind, names in {StepLineage: ("node", "end"), ProductRun: ("begin", "end"), LineageEmitter: ("flush",)}.items():
        for name in names:
            setattr(kind, name, timed(getattr(kind, name), held, emitters))
    name = str(content["metadata"]["product_name"]).replace("-", "_")
    job = definitions_from_file(path).resolve_job_def(name)
    with dg.DagsterInstance.ephemeral() as instance:
        started = time.perf_counter()
        result = job.execute_in_process(instance=instance)
        wall = time.perf_counter() - started
    assert result.success  # noqa: S101  # a benchmark of a run that failed would be one of nothing
    counts = [emitter.deliveries() for emitter in set(emitters)]
    sums = {"emitted": sum(one.emitted for one in counts), "sent": sum(one.sent for one in counts)}
    return {"wall": wall, "held": sum(held), **sums}


def timed(method: Callable[..., Any], held: list[float], emitters: list[Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as the method
        if method.__name__ == "flush":
            emitters.append(self)
        started = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        finally:
            held.append(time.perf_counter() - started)

    return call


def replay(url: str, spool: str, *, with_refused: bool) -> None:
    from floe_orchestrator_dagster.lineage.replay import replay as replay_spool
    from floe_orchestrator_dagster.lineage.replay import retry_refused

    if with_refused:
        retry_refused(Path(spool))
    replay_spool(Path(spool), backend(url), request_seconds=5, seconds=60)


def backend(url: str) -> Any:  # noqa: ANN401  # of a package that only the measuring process imports
    from floe_orchestrator_dagster.lineage.transport import Backend

    return Backend("benchmark", url, {"type": "http", "url": url, "endpoint": ""})


def event(number: int) -> Any:  # noqa: ANN401  # as backend
    """Make an event of about 2 kB: an input and an output with fifteen columns each."""
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import schema_dataset

    columns = [schema_dataset.SchemaDatasetFacetFields(f"column_{column}", "INTEGER") for column in range(COLUMNS)]
    facets = {"schema": schema_dataset.SchemaDatasetFacet(columns)}
    return event_v2.RunEvent(
        eventTime="2026-03-01T06:00:00+00:00",
        eventType=event_v2.RunState.COMPLETE,
        producer="https://example.com/benchmark",
        run=event_v2.Run("01941f29-7c00-7000-8000-000000000001"),
        job=event_v2.Job("benchmark", f"model_{number:04}"),
        inputs=[event_v2.InputDataset("duckdb://shop", "shop.main.raw", facets=dict(facets))],
        outputs=[event_v2.OutputDataset("duckdb://shop", f"shop.main.model_{number}", facets=dict(facets))],
    )


# --- the server -----------------------------------------------------------------------------------------------------


class Server:
    """A server process that behaves as told and says which events it acknowledged."""

    def __init__(self, fault: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1/lineage"
        command = [sys.executable, __file__, "--serve", fault, "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None  # noqa: S101  # it is piped
        self._process.stdout.readline()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def held(self) -> list[str]:
        with urlopen(Request(self.url), timeout=10) as answer:  # noqa: S310  # the server above
            return list(json.loads(answer.read()))


class Handler(BaseHTTPRequestHandler):
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]
    disable_nagle_algorithm: ClassVar[bool] = True
    fault: ClassVar[str] = "answers"
    held: ClassVar[list[str]] = []
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        with self.lock:
            self.answer(200, json.dumps(self.held).encode())

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["job"]["name"]
        if self.fault == "hangs":
            time.sleep(3600)
        if self.fault == "1 s each":
            time.sleep(1)
        if self.fault == "drips":
            for byte in b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n":
                time.sleep(1)
                self.wfile.write(bytes([byte]))
        if self.fault.isdigit():
            self.answer(int(self.fault), b"")
            return
        with self.lock:
            self.held.append(name)
        self.answer(201, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""


def serve(fault: str, port: int) -> None:
    Handler.fault = fault
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave, which is what is measured
    print("serving", flush=True)
    server.serve_forever()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
