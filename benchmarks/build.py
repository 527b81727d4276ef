"""One build of a generated product with real dbt and DuckDB; prints its times as JSON.

``plain`` is ``dbt build`` alone, ``stock`` plain dagster-dbt, ``floe`` this package with lineage on, sent to a server
that answers; ``plain-v2`` and ``floe-v2`` are the same with dbt v2 (``make setup-v2``). ``all`` builds everything,
``one`` a single model. Each build has a new database and a warm partial parse, which dbt v2 does not have.
``wall`` is the time of the run, ``process`` that of its whole process (imports, load and run), ``launch`` the time from
the start of that process to the start of the first node, ``launch_cpu`` the CPU of all its processes in this time, and
``first_node`` the time from the start of the step.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import psutil
import yaml
from lineage import Server, free_port
from real_shape_files import SOURCES_FILE
from run import executed

_PROFILES = ".profiles"
_DATABASE, _FLOE_DATABASE = "plain.duckdb", "warehouse/retail_orders.duckdb"
_SAMPLE_SECONDS = 0.25
_V2 = Path(__file__).parent.parent / ".dbt-v2" / "dbt"


def main() -> None:
    """Measure a build (``all`` or ``one``) of the artifacts' project by one of the ways above."""
    who, what, artifacts = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if len(sys.argv) == 4:  # noqa: PLR2004  # the outer process: prepares, and looks at the clock around the inner one
        print(json.dumps(measured(who, what, artifacts)))
        return
    if who.startswith("plain"):
        print(json.dumps(build_plain(what, artifacts, v2_command if who == "plain-v2" else dbt_command)))
    else:
        print(json.dumps((build_stock if who == "stock" else build_floe)(what, artifacts)))


def measured(who: str, what: str, artifacts: Path) -> dict[str, float]:
    """Run this script in a new process, without state of an earlier build."""
    project = artifacts.parent
    if who.startswith("floe"):
        choose_engine(artifacts, who)
        shutil.rmtree(project / "warehouse", ignore_errors=True)
        create_sources(project, project / _FLOE_DATABASE)
    else:
        project = plain_project(project)
        (project / _DATABASE).unlink(missing_ok=True)
        create_sources(project, project / _DATABASE)
    with Server("answers", free_port()) as server:
        command = [sys.executable, __file__, who, what, str(project / artifacts.name), "inner"]
        environment = {**os.environ, "OPENLINEAGE_URL": server.url.partition("/api")[0]}
        started = time.time()
        with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, stdout=printed, stderr=log, env=environment)
            used = list(cpu_times(process))
            seconds = time.time() - started
            printed.seek(0)
            log.seek(0)
            if process.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{log.read()[-4000:]}")
            found: dict[str, float] = json.loads(printed.read().splitlines()[-1])
        node_started = found.pop("node_started", started)
        cpu = max((cpu for at, cpu in used if at <= node_started), default=0)
        from_launch = {"launch": node_started - started, "launch_cpu": cpu, "process": seconds}
        return {**found, **from_launch, "lineage_events": len(server.held())}


def cpu_times(process: subprocess.Popen[bytes]) -> Iterator[tuple[float, float]]:
    """Yield the time and the CPU seconds of a process and its descendants, until it ends."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        used = 0.0
        with suppress(psutil.NoSuchProcess):  # it has ended
            used = sum(sum(one.cpu_times()[:4]) for one in (root, *root.children(recursive=True)))
        yield time.time(), used
        time.sleep(_SAMPLE_SECONDS)


def plain_project(project: Path) -> Path:
    """Copy the project for dbt without floe, once, with a separate profile and partial parse."""
    copy = project.with_name(f"{project.name}_plain")
    if not copy.exists():
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("target", "warehouse", "logs"))
        database = {"type": "duckdb", "path": str(copy / _DATABASE), "threads": 4}
        (copy / _PROFILES).mkdir()
        name = yaml.safe_load((copy / "dbt_project.yml").read_text(encoding="utf-8"))["profile"]
        profile = json.dumps({name: {"target": "dev", "outputs": {"dev": database}}})
        (copy / _PROFILES / "profiles.yml").write_text(profile, encoding="utf-8")
        subprocess.run(dbt_command(copy, "parse"), check=True, cwd=copy, stdout=subprocess.DEVNULL)
    return copy


def create_sources(project: Path, database: Path) -> None:
    """Create the sources that the models of a real shape read."""
    script = project / SOURCES_FILE
    if script.is_file():
        database.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(database)) as connection:
            connection.execute(script.read_text(encoding="utf-8"))


def one_model(artifacts: Path) -> str:
    """Return the name of the model that ``one`` builds. It reads no other model."""
    declared = json.loads(artifacts.read_text(encoding="utf-8"))["transforms"]["models"]
    return str(declared[0]["name"])


def dbt_command(project: Path, *arguments: str) -> list[str]:
    """dbt's own command line."""
    dbt = str(Path(sys.executable).with_name("dbt"))
    return [dbt, *arguments, "--project-dir", str(project), "--profiles-dir", str(project / _PROFILES)]


def v2_command(project: Path, *arguments: str) -> list[str]:
    """Command line of dbt v2, which ignores the profile's threads."""
    return [str(_V2), *dbt_command(project, *arguments)[1:], "--threads", "4"]


def choose_engine(artifacts: Path, who: str) -> None:
    """Write the engine into the product's configuration."""
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    orchestrator = content["plugins"]["orchestrator"]
    engine = {"engine": "v2", "executable": str(_V2)} if who == "floe-v2" else {"engine": "core"}
    orchestrator["config"] = {**(orchestrator["config"] or {}), "dbt": engine}
    artifacts.write_text(json.dumps(content), encoding="utf-8")


def build_plain(what: str, artifacts: Path, command_of: Callable[..., list[str]]) -> dict[str, float]:
    """Run ``dbt build``."""
    selection = [] if what == "all" else ["--select", one_model(artifacts)]
    started = time.time()
    command = command_of(artifacts.parent, "build", *selection)
    subprocess.run(command, check=True, cwd=artifacts.parent, stdout=subprocess.DEVNULL)
    return {"wall": time.time() - started}


def build_stock(what: str, artifacts: Path) -> dict[str, float]:
    """Run plain dagster-dbt's job."""
    import dagster as dg
    from dagster_dbt import DbtCliResource, dbt_assets

    project = artifacts.parent

    @dbt_assets(manifest=project / "target" / "manifest.json")
    def everything(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        yield from dbt.cli(["build"], context=context).stream()

    dbt = str(Path(sys.executable).with_name("dbt"))
    resource = DbtCliResource(project_dir=str(project), profiles_dir=str(project / _PROFILES), dbt_executable=dbt)
    jobs = [dg.define_asset_job("build_everything")]
    definitions = dg.Definitions([everything], jobs=jobs, resources={"dbt": resource})
    return built(definitions, "build_everything", what, artifacts)


def build_floe(what: str, artifacts: Path) -> dict[str, float]:
    """Run the product's job."""
    from floe_orchestrator_dagster.code_location import definitions_to_serve

    return built(definitions_to_serve(artifacts), "retail_orders", what, artifacts)


def built(definitions: Any, job_name: str, what: str, artifacts: Path) -> dict[str, float]:  # noqa: ANN401  # dg.Definitions
    """Seconds of the run, and from its first step's start to that step's first node's."""
    import dagster as dg

    project, model = artifacts.parent, one_model(artifacts)
    before = set(project.glob("target/**/run_results.json"))
    run = executed(definitions, job_name, None if what == "all" else [dg.AssetKey(model)])
    results = set(project.glob("target/**/run_results.json")) - before
    nodes = [node for path in results for node in json.loads(path.read_text(encoding="utf-8"))["results"]]
    times = [datetime.fromisoformat(timing["started_at"]) for node in nodes for timing in node["timing"]]
    node_started = min(times).timestamp()
    return {
        "wall": run.wall,
        "first_node": node_started - run.first_step,
        "node_started": node_started,
        "materializations": run.materializations,
    }


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()
