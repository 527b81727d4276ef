"""Many runs of one product in one daemon and code server; prints memory, file descriptors and database size as JSON.

``soak.py stock RUNS ARTIFACTS`` measures plain dagster-dbt, ``floe`` this package. The storage is SQLite, as in
``dagster dev``, and each run is one process. A sensor requests the next run when the last one has ended. After each
run, the daemon, the code server and the storage directory are measured. The first twenty runs fill caches. Growth is
the slope of the others.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import linear_regression
from typing import TYPE_CHECKING

import psutil
from build import create_sources, plain_project
from soak_location import ARTIFACTS_VARIABLE, RUNS_VARIABLE, WHO_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCATION = Path(__file__).with_name("soak_location.py")
_FIRST = 20
_POLL_SECONDS = 0.5
_RUN_SECONDS = 900


@dataclass(frozen=True)
class State:
    """Memory, file descriptors and databases after a run.

    Attributes:
        daemon_mb: Memory of the daemon.
        server_mb: Memory of the code server.
        daemon_files: Open file descriptors of the daemon.
        server_files: Open file descriptors of the code server.
        storage_mb: Size of Dagster's databases.
        other_mb: Size of other files in Dagster's storage, such as logs.
    """

    daemon_mb: float
    server_mb: float
    daemon_files: int
    server_files: int
    storage_mb: float
    other_mb: float


def main() -> None:
    """Run the product so many times, and print the growth per run."""
    who, runs, artifacts = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="floe-soak-") as home:
        states, failed = soaked(who, runs, prepared(who, artifacts), Path(home))
    first = min(_FIRST, len(states) // 2)
    later = states[first:]
    print(
        json.dumps(
            {
                "runs": len(states),
                "failed": failed,
                "after_first": asdict(states[first - 1]),
                "at_end": asdict(states[-1]),
                "growth_per_run": {
                    name: slope([getattr(state, name) for state in later]) for name in asdict(states[0])
                },
            }
        )
    )


def prepared(who: str, artifacts: Path) -> Path:
    """Return the artifacts of a project with an empty database; of a copy without floe for plain dagster-dbt."""
    project = artifacts.parent
    if who == "floe":
        content = json.loads(artifacts.read_text(encoding="utf-8"))
        content["plugins"]["orchestrator"]["config"]["executor"] = "in_process"
        artifacts.write_text(json.dumps(content), encoding="utf-8")
        shutil.rmtree(project / "warehouse", ignore_errors=True)
        create_sources(project, project / "warehouse" / "retail_orders.duckdb")
        return artifacts
    copy = plain_project(project)
    (copy / "plain.duckdb").unlink(missing_ok=True)
    create_sources(copy, copy / "plain.duckdb")
    return copy / artifacts.name


def slope(values: list[float]) -> float:
    """Return the growth per run."""
    return linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0


def soaked(who: str, runs: int, artifacts: Path, home: Path) -> tuple[list[State], int]:
    """Run the product in a new Dagster instance; return the state after each run and the number of failed runs."""
    import dagster as dg

    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    states: list[State] = []
    # The instance creates the databases, which it and the daemon must not do at the same time.
    with dg.DagsterInstance.from_config(str(home)) as instance, running_daemon(who, runs, artifacts, home) as daemon:
        last = time.monotonic()
        while len(states) < runs:
            time.sleep(_POLL_SECONDS)
            ended = [run.status for run in instance.get_runs() if run.is_finished]
            if len(ended) > len(states):
                states += [state(daemon, home)] * (len(ended) - len(states))
                last = time.monotonic()
                print(f"{len(states)} {states[-1]}", file=sys.stderr, flush=True)
            if daemon.poll() is not None or time.monotonic() - last > _RUN_SECONDS:
                raise SystemExit(f"no run ended: {(home / 'log').read_text(encoding='utf-8')[-4000:]}")
    return states, sum(status is not dg.DagsterRunStatus.SUCCESS for status in ended)


@contextmanager
def running_daemon(who: str, runs: int, artifacts: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``dagster-daemon``, which starts the code server."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        WHO_VARIABLE: who,
        RUNS_VARIABLE: str(runs),
        ARTIFACTS_VARIABLE: str(artifacts),
    }
    dagster_daemon, directory = Path(sys.executable).with_name("dagster-daemon"), _LOCATION.parent
    command = [str(dagster_daemon), "run", "-f", str(_LOCATION), "-d", str(directory)]
    with (home / "log").open("wb") as log:
        daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield daemon
        finally:
            started = psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
            daemon.terminate()
            daemon.wait()
            psutil.wait_procs(started, timeout=60)


def state(daemon: subprocess.Popen[bytes], home: Path) -> State:
    """Measure the processes and the storage."""
    own = psutil.Process(daemon.pid)
    # Processes of runs are children of the code server.
    servers = [child for child in own.children() if is_code_server(child)]
    storage, other = sizes(home)
    return State(
        own.memory_info().rss / 1e6,
        sum(server.memory_info().rss for server in servers) / 1e6,
        own.num_fds(),
        sum(server.num_fds() for server in servers),
        storage / 1e6,
        other / 1e6,
    )


def is_code_server(process: psutil.Process) -> bool:
    """Return whether a child of the daemon is the code server. Other children can end meanwhile."""
    with suppress(psutil.NoSuchProcess):
        return "grpc" in " ".join(process.cmdline())
    return False


def sizes(home: Path) -> tuple[int, int]:
    """Return the bytes of the databases, and of other files. Files can disappear meanwhile, such as SQLite's logs."""
    found = {True: 0, False: 0}
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found[".db" in path.name] += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return found[True], found[False]


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()
