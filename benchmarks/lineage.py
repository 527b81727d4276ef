"""Cost of 1,000 lineage events for a step, with a real HTTP server and each of its faults.

The server is a process of its own; so is each measurement. Printed as a table: seconds that emitting adds to the step,
seconds that the flush at its end adds, what became of the events, and whether the server holds each of them after a
replay. A second table emits at the pace of a run (two events per model) and compares with the same run without lineage.
With ``--product`` a real product is run instead, in turns without lineage and with each of the backends.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lineage_product import print_product
from lineage_server import FAULTS, Server, free_port

__all__ = ["Server", "free_port"]  # of another benchmark too

EVENTS = 1000
COLUMNS = 15
MODELS = 100
ROUNDS = 3
SECONDS_PER_MODEL = 0.1  # dbt with Dagster takes longer: 139 s for 1,200 nodes (docs/internals/lineage-delivery.md)


def main() -> None:
    """Measure every behaviour of a backend, then a run at its own pace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, metavar=("URL", "SPOOL"), help=argparse.SUPPRESS)
    parser.add_argument("--run", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--product", metavar="DIRECTORY", help="run the product in copies of this directory")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often the product is run in each way")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
    elif arguments.run is not None:
        print(json.dumps(run(arguments.run)))
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


def child(*arguments: str) -> dict[str, Any]:
    result = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


# --- in the measuring process ---------------------------------------------------------------------------------------


def measure(url: str, spool: str) -> dict[str, float]:
    """Emit all events at once, as a step does in the worst case, and flush."""
    from floe_orchestrator_dagster.config.models import LineageConfig
    from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter

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
    from floe_orchestrator_dagster.config.models import LineageConfig
    from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter

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


def replay(url: str, spool: str, *, with_refused: bool) -> None:
    from floe_orchestrator_dagster.lineage.delivery.replay import replay as replay_spool
    from floe_orchestrator_dagster.lineage.delivery.replay import retry_refused

    if with_refused:
        retry_refused(Path(spool))
    replay_spool(Path(spool), backend(url), request_seconds=5, seconds=60)


def backend(url: str) -> Any:  # noqa: ANN401  # of a package that only the measuring process imports
    from floe_orchestrator_dagster.lineage.delivery.backends import Backend

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


if __name__ == "__main__":
    main()
