"""Cost of lineage in runs of a real product, alternating between no lineage and each backend.

``wall`` is the run's, ``held`` what its steps spend in lineage: an upper bound of what that adds, as dbt goes on
meanwhile. Each run is a process of its own (``lineage_product.py URL DIRECTORY``), on a copy that was prepared once.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lineage_server import Server, free_port
from products import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT = "none"
WAYS = (WITHOUT, "answers", "1 s each", "hangs", "drips", "refuses")
_ARTIFACTS = "compiled_artifacts.json"
_MADE = shutil.ignore_patterns("target", "logs", "warehouse")


def print_product(product: Path, rounds: int) -> None:
    """Measure, and print a table of medians.

    Args:
        product: Directory of the product, with ``compiled_artifacts.json``.
        rounds: How often it is run in each way.
    """
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as scratch:
        prepared = Path(shutil.copytree(product, Path(scratch, "product"), ignore=_MADE))
        prepare(prepared / _ARTIFACTS)
        measured: list[dict[str, dict[str, float]]] = []
        for number in range(rounds):
            # The order is reversed in every other round, so that a machine that slows down does not penalize the last.
            ways = WAYS if number % 2 == 0 else WAYS[::-1]
            measured.append({way: one_run(prepared, way) for way in ways})
    print("| backend | run (s) | more than without | held up by lineage (s) | share | events | sent |")
    print("|---|---|---|---|---|---|---|")
    for way in WAYS:
        runs = [one[way] for one in measured]
        wall, held = (statistics.median(run[name] for run in runs) for name in ("wall", "held"))
        more = statistics.median(one[way]["wall"] / one[WITHOUT]["wall"] - 1 for one in measured)
        numbers = f"{wall:.1f} | {more:+.1%} | {held:.2f} | {held / wall:.1%}"
        print(f"| {way} | {numbers} | {runs[0]['emitted']:g} | {runs[0]['sent']:g} |", flush=True)


def one_run(prepared: Path, way: str) -> dict[str, float]:
    """Run a copy of the product in a new process."""
    port = free_port()
    url = "" if way == WITHOUT else f"http://127.0.0.1:{port}/api/v1/lineage"
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as scratch, ExitStack() as stack:
        copy = shutil.copytree(prepared, Path(scratch, "product"))
        if url and way != "refuses":
            stack.enter_context(Server(way, port))
        command = [sys.executable, __file__, url, str(copy)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENLINEAGE_")}
        finished = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr[-4000:]}")
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    print(way, found, file=sys.stderr, flush=True)
    return found


def build(url: str, directory: str) -> dict[str, float]:
    """Run the product's job and add up what its steps spend in lineage; with an empty URL, without lineage."""
    import dagster as dg

    from floe_orchestrator_dagster.code_location import definitions_from_file
    from floe_orchestrator_dagster.execution.step.product_lineage import ProductRun
    from floe_orchestrator_dagster.execution.step.step_lineage import StepLineage
    from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter

    os.environ |= {"FLOE_STATE_DIR": str(Path(directory, "state")), "DAGSTER_DISABLE_TELEMETRY": "true"}
    path = Path(directory, _ARTIFACTS)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["observability"] |= {"lineage": bool(url), "lineage_endpoint": url or None}
    path.write_text(json.dumps(content), encoding="utf-8")
    held: list[float] = []
    emitters: list[LineageEmitter] = []
    methods = {
        StepLineage: ("node_started", "node_ended", "end"),
        ProductRun: ("start", "end"),
        LineageEmitter: ("flush",),
    }
    for kind, names in methods.items():
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


if __name__ == "__main__":
    print(json.dumps(build(*sys.argv[1:])))
