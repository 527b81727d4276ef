"""Runs that are ended in the middle: dbt goes with its step, whatever ends that, and the database stays usable."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_made_anew
from integration.job_process import JobProcess, dagster_home, newest_run, tables
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {
    "dbt_project.yml": '{name: shop, version: "1.0", profile: shop_orders}',
    "models/first.sql": "{{ config(materialized='table') }} select 1 as id",
    # A query that takes minutes unless it is told to be short.
    "models/endless.sql": """
        {{ config(materialized='table') }}
        select count(*) as n from range({{ env_var('ROWS', '1000000000000') if execute else 10 }}) as a
        join {{ ref('first') }} on true
        """,
    # Nobody writes into this pipe: the query waits, and takes no processor meanwhile.
    "models/hanging.sql": """
        {{ config(materialized='table') }}
        select n from {{ ref('endless') }}
        {{ "join read_csv('pipe', columns={'id': 'int'}) on true" if execute and env_var('HANG', '') }}
        """,
}


def write_contract(project: Path, **dbt: object) -> Path:
    models = [model("first"), model("endless", "first"), model("hanging", "endless")]
    config = {"executor": "in_process", "dbt": dbt}
    return write_json(project / "compiled_artifacts.json", contract(*models, config=config))


@pytest.fixture(scope="session")
def _parsed_endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("endless") / "shop", FILES)
    load_product(write_contract(project), manifest_source=manifest_made_anew)
    return project


@pytest.fixture
def shop(_parsed_endless: Path, tmp_path: Path) -> Path:
    """Give a project whose second model does not end."""
    project = Path(shutil.copytree(_parsed_endless, tmp_path / "shop"))
    os.mkfifo(project / "pipe")
    return project


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(tmp_path / "home")


@pytest.fixture
def endless(shop: Path, home: Path) -> Iterator[JobProcess]:
    """Give a run that is in the middle of a query."""
    run = JobProcess(shop, home)
    try:
        run.wait_for(run.says("Began running node model.shop.endless"))
        time.sleep(0.5)
        yield run
    finally:
        run.end()


def test_a_run_that_is_cancelled_takes_dbt_along(endless: JobProcess, shop: Path, home: Path) -> None:
    # What Dagster's own termination does: it notes the wish, then signals the process.
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.report_run_canceling(instance.get_runs(limit=1)[0])
    endless.process.send_signal(signal.SIGTERM)

    assert endless.ended_within(5), endless.text
    endless.process.wait(timeout=30)
    assert newest_run(home).status is dg.DagsterRunStatus.CANCELED
    assert "first" in tables(shop)
    assert not list(Path(shop / "target").glob("*/partial_parse.msgpack"))


def test_an_invocation_that_takes_too_long_is_ended_and_lets_the_run_in_that_waits(shop: Path, home: Path) -> None:
    write_contract(shop, timeout_seconds=20)
    run = JobProcess(shop, home, ROWS="10", HANG="yes")
    second = None
    try:
        run.wait_for(run.says("running dbt"))
        write_contract(shop)
        second = JobProcess(shop, home, ROWS="10")
        second.wait_for(second.says(f"waiting for {shop / 'shop.duckdb'}: another run of dbt uses it"))
        assert run.process.poll() is None
        while run.process.poll() is None:
            run.look()
            time.sleep(0.05)
        assert run.dbt_ended_within(0)
        assert second.process.wait(timeout=120) == 0, second.text
    finally:
        for process in filter(None, (run, second)):
            process.end()

    assert (
        f"{shop}: dbt was ended after 20 s, its limit. Running then: hanging. Look at what these wait for" in run.text
    )
    assert "dbt was ended while it ran hanging" in run.text
    assert {"first", "endless", "hanging"} <= tables(shop)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        statuses = [run.status for run in instance.get_runs()]
    assert statuses == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
