"""Runs that are ended in the middle: dbt goes with its step, whatever ends that, and the database stays usable."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import psutil
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_made_anew
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from processes import clean_environment
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lineage_backend import LineageServer

JOB = ("-m", "dagster", "job", "execute", "-m", "floe_orchestrator_dagster.definitions", "-j", "shop_orders")
# A query that takes minutes unless it is told to be short.
ENDLESS = "select count(*) as n from range({{ env_var('ROWS', '1000000000000') }}) as a"
FILES = {
    "dbt_project.yml": '{name: shop, version: "1.0", profile: shop_orders}',
    "models/first.sql": "{{ config(materialized='table') }} select 1 as id",
    "models/endless.sql": f"{{{{ config(materialized='table') }}}} {ENDLESS} join {{{{ ref('first') }}}} on true",
    "models/last.sql": "select * from {{ ref('endless') }}",
}
KILLS = int(os.environ.get("INTERRUPTIONS", "1"))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Give a project whose second model does not end."""
    project = write_files(tmp_path / "shop", FILES)
    models = [model("first"), model("endless", "first"), model("last", "endless")]
    config = {"executor": "in_process", "lineage": {"spool_dir": str(tmp_path / "spool")}}
    content = contract(*models, config=config)
    content["observability"]["lineage"] = True
    path = write_json(project / "compiled_artifacts.json", content)
    load_product(path, manifest_source=manifest_made_anew)
    return project


@pytest.fixture
def backend() -> Iterator[LineageServer]:
    with serving() as served:
        yield served


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return home


class Run:
    """A run of the product's job in a process of its own, and the processes below it."""

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

    def wait_for(self, happened: Callable[[], bool], seconds: float = 120) -> None:
        """Wait, and remember the processes that come up meanwhile."""
        until = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, self.output.read_text(encoding="utf-8")
            assert time.monotonic() < until, self.output.read_text(encoding="utf-8")
            self.look()
            time.sleep(0.05)
        self.look()

    def look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.children.setdefault(child.pid, child)

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self) -> list[psutil.Process]:
        return [child for child in self.children.values() if child.is_running() and child.status() != "zombie"]

    def ended_within(self, seconds: float) -> bool:
        """Tell whether all processes below the run are gone in time."""
        until = time.monotonic() + seconds
        while self.alive and time.monotonic() < until:
            time.sleep(0.05)
        return not self.alive

    def end(self) -> None:
        """Leave nothing behind."""
        for child in self.alive:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def endless(shop: Path, home: Path, backend: LineageServer) -> Iterator[Run]:
    """Give a run that is in the middle of a query, and tells its lineage."""
    run = Run(shop, home, OPENLINEAGE_URL=backend.url.removesuffix("/api/v1/lineage"))
    try:
        run.wait_for(run.says("Began running node model.shop.endless"))
        time.sleep(0.5)
        yield run
    finally:
        run.end()


def newest_run(home: Path) -> dg.DagsterRun:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return instance.get_runs(limit=1)[0]


def evaluate_sensor(project: Path, home: Path, backend: LineageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate the sensor of the newest run's status, as the daemon does."""
    monkeypatch.setenv("OPENLINEAGE_URL", backend.url.removesuffix("/api/v1/lineage"))
    repository = definitions_from_file(project / "compiled_artifacts.json").get_repository_def()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.get_runs(limit=1)[0]
        kinds = {dg.DagsterEventType.RUN_CANCELED, dg.DagsterEventType.RUN_FAILURE}
        [record] = instance.all_logs(run.run_id, of_type=kinds)
        name = f"shop_orders_lineage_{run.status.value.lower()}"
        repository.get_sensor_def(name)(dg.RunStatusSensorContext(name, run, record.dagster_event, instance))


def told(backend: LineageServer) -> list[tuple[str, str]]:
    return [(event["job"]["name"].rpartition(".")[2], event["eventType"]) for event in backend.events]


def tables(project: Path) -> set[str]:
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        return {name for (name,) in connection.sql("select table_name from information_schema.tables").fetchall()}


def test_a_run_that_is_cancelled_takes_dbt_along(
    endless: Run, shop: Path, home: Path, backend: LineageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Dagster's own termination does: it notes the wish, then signals the process.
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.report_run_canceling(instance.get_runs(limit=1)[0])
    endless.process.send_signal(signal.SIGTERM)

    assert endless.ended_within(5), endless.output.read_text(encoding="utf-8")
    endless.process.wait(timeout=30)
    assert newest_run(home).status is dg.DagsterRunStatus.CANCELED
    assert "first" in tables(shop)
    assert not list(Path(shop / "target").glob("*/partial_parse.msgpack"))
    assert_valid_json(backend.events)
    assert told(backend)[-3:] == [("endless", "START"), ("endless", "ABORT"), ("shop-orders", "ABORT")]
    events = len(backend.events)
    evaluate_sensor(shop, home, backend, monkeypatch)
    assert len(backend.events) == events  # the run has told everything itself


def test_a_step_that_is_killed_takes_dbt_along_and_the_next_run_is_green(
    endless: Run, shop: Path, home: Path, backend: LineageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless.process.kill()

    assert endless.ended_within(5)
    endless.process.wait()
    assert told(backend)[-1] == ("endless", "START")
    with dg.DagsterInstance.from_config(str(home)) as instance:  # as Dagster's run monitoring does
        instance.report_run_failed(instance.get_runs(limit=1)[0], "the machine is gone")
    for _ in range(2):
        evaluate_sensor(shop, home, backend, monkeypatch)
    assert_valid_json(backend.events)
    start, end, product = backend.events[-3:]
    assert told(backend)[-3:] == [("endless", "START"), ("endless", "ABORT"), ("shop-orders", "FAIL")]
    assert end["run"]["runId"] == start["run"]["runId"]
    assert (end["inputs"], end["outputs"]) == (start["inputs"], start["outputs"])
    assert end["run"]["facets"]["errorMessage"]["message"].endswith("the machine is gone")
    assert product["run"]["runId"] == backend.events[0]["run"]["runId"]
    again = Run(shop, home, ROWS="10")
    try:
        assert again.process.wait(timeout=120) == 0, again.output.read_text(encoding="utf-8")
    finally:
        again.end()
    assert {"first", "endless", "last"} <= tables(shop)


def test_a_second_run_waits_for_the_database_instead_of_failing(endless: Run, shop: Path, home: Path) -> None:
    second = Run(shop, home, ROWS="10")
    try:
        second.wait_for(second.says(f"waiting for {shop / 'shop.duckdb'}: another run of dbt uses it"))
        assert second.process.poll() is None
        endless.process.send_signal(signal.SIGTERM)
        assert second.process.wait(timeout=120) == 0, second.output.read_text(encoding="utf-8")
    finally:
        second.end()
    assert {"first", "endless", "last"} <= tables(shop)


def test_an_invocation_that_takes_too_long_is_ended(shop: Path, home: Path) -> None:
    config = {"executor": "in_process", "dbt": {"timeout_seconds": 1}}
    models = [model("first"), model("endless", "first"), model("last", "endless")]
    write_json(shop / "compiled_artifacts.json", contract(*models, config=config))
    run = Run(shop, home)
    try:
        while run.process.poll() is None:
            run.look()
            time.sleep(0.05)
        assert run.children
        assert not run.alive
    finally:
        run.end()

    assert f"{shop}: dbt was ended after 1 s, its limit." in run.output.read_text(encoding="utf-8")
    assert newest_run(home).status is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_run_ended_at_any_moment_leaves_no_process_and_a_usable_database(shop: Path, home: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    run = Run(shop, home)
    try:
        until = time.monotonic() + chance.uniform(2, 15)
        run.wait_for(lambda: time.monotonic() > until)
        run.process.send_signal(number)
        run.process.wait(timeout=30)
        assert run.ended_within(5)
    finally:
        run.end()

    again = Run(shop, home, ROWS="10")
    try:
        assert again.process.wait(timeout=120) == 0, again.output.read_text(encoding="utf-8")
    finally:
        again.end()
    assert {"first", "endless", "last"} <= tables(shop)
