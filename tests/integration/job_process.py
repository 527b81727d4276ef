"""A run in a separate process, as Dagster starts it, and its child processes."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import psutil

from floe_orchestrator_dagster.code_location import definitions_from_file
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable

JOB = ("-m", "dagster", "job", "execute", "-m", "floe_orchestrator_dagster.definitions", "-j", "shop_orders")


class JobProcess:
    """A run of the product's job, and the processes below it."""

    def __init__(self, project: Path, home: Path, **environment: str) -> None:
        artifacts = str(project / "compiled_artifacts.json")
        self.output = home / f"{time.monotonic_ns()}.log"
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *JOB],
                cwd=home,
                env=clean_environment(FLOE_ARTIFACTS_PATH=artifacts, DAGSTER_HOME=str(home), **environment),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.children: dict[int, psutil.Process] = {}

    def wait_for(self, happened: Callable[[], bool], seconds: float = 600) -> None:
        """Wait, and remember the processes that come up meanwhile."""
        until = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < until, self.text
            self.look()
            time.sleep(0.05)
        self.look()

    def look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.children.setdefault(child.pid, child)

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.text

    @property
    def alive(self) -> list[psutil.Process]:
        return [child for child in self.children.values() if _command(child)]

    @property
    def steps(self) -> list[psutil.Process]:
        return [child for child in self.alive if "spawn_main" in _command(child)]

    @property
    def dbt(self) -> list[psutil.Process]:
        """The processes that run dbt: its guard, and dbt; dbt v2 writes OpenTelemetry records."""
        marks = ("execution.dbt.core_process", "execution.dbt.v2_process", "--otel-file-name")
        return [child for child in self.alive if any(mark in _command(child) for mark in marks)]

    def ended_within(self, seconds: float) -> bool:
        """Tell whether all processes below the run are gone in time."""
        return _is_so_within(seconds, lambda: not self.alive)

    def dbt_ended_within(self, seconds: float) -> bool:
        """Tell whether the processes that run dbt are gone in time."""
        return _is_so_within(seconds, lambda: not self.dbt)

    def end(self) -> None:
        """Leave nothing behind."""
        for child in self.alive:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.kill()
        self.process.wait()


def _is_so_within(seconds: float, is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        time.sleep(0.05)
    return is_so()


def _command(process: psutil.Process) -> str:
    """Return the command line of a process; empty when it has ended, also as a zombie."""
    try:
        return " ".join(process.cmdline()) if process.is_running() else ""
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def _opens(database: Path) -> bool:
    try:
        duckdb.connect(str(database)).close()
    except duckdb.IOException:
        return False
    return True


def product_job(artifacts: str) -> dg.JobDefinition:
    """Define the product's job; Dagster finds this function by its name."""
    return definitions_from_file(Path(artifacts)).resolve_job_def("shop_orders")


def dagster_home(directory: Path) -> Path:
    """Make a Dagster instance that reports nothing."""
    directory.mkdir()
    (directory / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return directory


def newest_run(home: Path) -> dg.DagsterRun:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return instance.get_runs(limit=1)[0]


def opened(database: Path, seconds: float = 60) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file; a process that was killed holds it until the last of its threads is gone."""
    assert _is_so_within(seconds, lambda: _opens(database))
    return duckdb.connect(str(database))


def tables(project: Path) -> set[str]:
    with opened(project / "shop.duckdb") as connection:
        return {name for (name,) in connection.sql("select table_name from information_schema.tables").fetchall()}
