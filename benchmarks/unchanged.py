"""Second run of an unchanged product with ``build: changed``, beside the first run of it; prints the times as JSON.

    python benchmarks/unchanged.py SIZE [ROUNDS]

A size is as in ``compare.py``: ``400``, ``real-2300``, or ``0`` for the sample product. Each round has a new Dagster
instance and a new database. Both runs are separate processes with real dbt. Sources count as unchanged
(``assume_unchanged``), so that the second run has no queries for them. The product's lineage has no backend.

``wall`` and ``cpu`` are seconds of the run, from its start to its end, the latter of all its processes; ``process`` and
``process_cpu`` those of the whole process, with imports, the load and the events of the run's plan. ``decide`` is the
CPU of a decision about all nodes (``plan --changed``) in a process that has made one before, ``decide_first`` that of
the first one. These do not include the process that lists the tables of the DuckDB file, whose CPU are ``listing`` and
``listing_first``. ``--profile`` as the last argument prints the functions of the second run that take most of the time.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from build import create_sources
from products import Shape, prepare
from run import executed

_DATABASE = "warehouse/retail_orders.duckdb"
_JOB = "retail_orders"
_FIRST, _SECOND, _PLAN, _PROFILED = "first", "second", "plan", "profiled"
_SHOWN = 70


def main() -> None:
    """Measure a size, or run one of the inner processes."""
    if sys.argv[1] in {_FIRST, _SECOND, _PLAN, _PROFILED}:
        run_inner(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
        return
    arguments = [argument for argument in sys.argv[1:] if argument != "--profile"]
    shape, rounds = Shape.parsed(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="floe-bench-unchanged-") as directory:
        artifacts = shape.write(Path(directory))
        configure(artifacts)
        prepare(artifacts)
        measured = [measure(artifacts, Path(directory, f"home-{number}")) for number in range(rounds)]
        print(json.dumps(measured, indent=1))
        ratios = {
            name: [found[_SECOND][name] / found[_FIRST][name] for found in measured]
            for name in ("wall", "cpu", "process", "process_cpu")
        }
        print(json.dumps({name: round(median(values), 3) for name, values in ratios.items()}))
        if "--profile" in sys.argv:
            print(inner(_PROFILED, artifacts, Path(directory, "home-0"))["profile"])


def configure(artifacts: Path) -> None:
    """Set ``build: changed``, and that no source changes."""
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    prepare(artifacts)
    manifest = json.loads((artifacts.parent / "target" / "manifest.json").read_text(encoding="utf-8"))
    sources = sorted({source["source_name"] for source in manifest["sources"].values()})
    orchestrator = content["plugins"]["orchestrator"]
    changed = {"build": "changed", "assume_unchanged": sources}
    orchestrator["config"] = {**(orchestrator["config"] or {}), **changed}
    artifacts.write_text(json.dumps(content), encoding="utf-8")


def measure(artifacts: Path, home: Path) -> dict[str, dict[str, float]]:
    """Run the product twice, and decide about it."""
    shutil.rmtree(artifacts.parent / "warehouse", ignore_errors=True)
    create_sources(artifacts.parent, artifacts.parent / _DATABASE)
    home.mkdir()
    return {what: inner(what, artifacts, home) for what in (_FIRST, _SECOND, _PLAN)}


def inner(what: str, artifacts: Path, home: Path) -> dict[str, Any]:
    """Run this script in a new process."""
    command = [sys.executable, __file__, what, str(artifacts), str(home)]
    started, before = time.time(), _cpu(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr[-4000:]}")
    used = {"process": time.time() - started, "process_cpu": _cpu(resource.RUSAGE_CHILDREN) - before}
    return {**json.loads(ended.stdout.splitlines()[-1]), **used}


def run_inner(what: str, artifacts: Path, home: Path) -> None:
    """Run the product, or decide what a run would build, and print the times."""
    from floe_orchestrator_dagster.code_location import definitions_to_serve

    if what == _PLAN:
        print(json.dumps(decide(artifacts, home)))
        return
    definitions = definitions_to_serve(artifacts)
    profile = cProfile.Profile()
    if what == _PROFILED:
        profile.enable()
    before = _cpu(resource.RUSAGE_CHILDREN)
    run = executed(definitions, _JOB, home=home)
    profile.disable()
    if not run.result.success:
        raise SystemExit("the run failed")
    found: dict[str, Any] = {
        "wall": run.wall,
        "cpu": run.cpu + _cpu(resource.RUSAGE_CHILDREN) - before,
        "materializations": run.materializations,
        "checks": len(run.result.get_asset_check_evaluations()),
    }
    if what == _PROFILED:
        from io import StringIO

        text = StringIO()
        pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(_SHOWN)
        pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(_SHOWN)
        found["profile"] = text.getvalue()
    print(json.dumps(found))


def decide(artifacts: Path, home: Path) -> dict[str, float]:
    """Decide twice what a run would build."""
    import dagster as dg

    from floe_orchestrator_dagster.code_location import build_location
    from floe_orchestrator_dagster.inspect.changes import plan_changes
    from floe_orchestrator_dagster.product import load_product

    location = build_location(load_product(artifacts))
    location.definitions.get_repository_def()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        found: dict[str, float] = {}
        for which in ("_first", ""):
            started, listed = time.process_time(), _cpu(resource.RUSAGE_CHILDREN)
            plan = plan_changes(instance, location.builds)
            found[f"decide{which}"] = time.process_time() - started
            found[f"listing{which}"] = _cpu(resource.RUSAGE_CHILDREN) - listed
    return {**found, "built": sum(asset.is_built for asset in plan.assets)}


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()
