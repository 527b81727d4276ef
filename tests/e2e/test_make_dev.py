"""The repository's ``make dev``, ended as people end it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import psutil

from e2e.servers import DagsterDev, answers, free_port, wait_until
from e2e.shop import dbt_processes, launch
from processes import clean_environment

REPOSITORY = Path(__file__).parents[2]


def make_dev(port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start ``make dev`` in the log's directory, in a new process group as a shell does."""
    make = [shutil.which("make") or "make", "-f", str(REPOSITORY / "Makefile"), "--old-file=setup", "dev"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*make, f"PORT={port}", f"BIN={Path(sys.executable).parent}"],
            env=clean_environment(MAKEFLAGS=""),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_ctrl_c_ends_make_dev_with_a_run_under_way(sample: Path) -> None:
    directory, port = sample.parent, free_port()
    shutil.copy(REPOSITORY / "workspace.yaml", directory)
    dev = DagsterDev(f"http://127.0.0.1:{port}", sample, directory / "make.log")
    process = make_dev(port, dev.log)
    try:
        wait_until(lambda: answers(dev), 600, process, dev.log)
        with dg.DagsterInstance.from_config(str(directory / ".dagster")) as instance:
            run_id = launch(dev, "retail_orders", location="floe")
            wait_until(lambda: "Began running node" in step_output(directory, run_id), 600, process, dev.log)
            below = psutil.Process(process.pid).children(recursive=True)
            assert dbt_processes(dev, run_id)

            os.killpg(process.pid, signal.SIGINT)

            process.wait(timeout=60)
            _, alive = psutil.wait_procs(below, timeout=60)
            assert alive == []
            run = instance.get_run_by_id(run_id)
            assert run is not None
            assert run.status in {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    finally:
        process.terminate()
        process.wait(timeout=60)
    said = dev.log.read_text(encoding="utf-8", errors="replace")
    assert f"the lineage is at {dev.url}/asset-groups\n" in said
    assert " - dbt engine: dbt-core " in said
    assert "Began running node" not in said  # dbt's log is on the run's page
    assert " - DEBUG - " not in said  # nor events of Dagster
    duckdb.connect(str(sample / "warehouse" / "retail_orders.duckdb")).close()


def step_output(directory: Path, run_id: str) -> str:
    """Return what the steps of a run have printed so far."""
    files = (directory / ".dagster" / "storage" / run_id / "compute_logs").glob("*.out")
    return "".join(file.read_text(encoding="utf-8") for file in files)
