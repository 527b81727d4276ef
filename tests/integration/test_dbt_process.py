"""The process that runs dbt: what Python models do to it, and what it leaves of a database."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.job_process import JobProcess, dagster_home, tables
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {
    "dbt_project.yml": '{name: shop, version: "1.0", profile: shop_orders}',
    # More rows than DuckDB keeps in memory for the file itself, and an attached file.
    "models/first.sql": "{{ config(materialized='table') }} select range as id from range(200000)",
    "models/beside.sql": "{{ config(materialized='table', database='beside') }} select id from {{ ref('first') }}",
    # Keeps what it got for as long as Python lives, as a cache in a module does.
    "models/odd.py": """
        import builtins
        import os
        import re
        import threading
        import time


        def model(dbt, session):
            dbt.config(materialized="table")
            builtins.kept = [session, session.sql("select 1"), session.cursor()]
            does = os.environ.get("DOES", "")
            if does == "hold":
                re.match(r"(a+)+$", "a" * 64 + "b")  # for ever, without letting any other thread run
            if does == "close":
                os.closerange(3, 4096)
                time.sleep(600)
            if does == "stay":
                threading.Thread(target=time.sleep, args=(600,)).start()
            return dbt.ref("first").filter("id < 3")
        """,
    "models/last.sql": """
        {{ config(materialized='table') }}
        select {{ "no_such_column" if execute and env_var('DOES', '') == 'fail' else 'id' }} from {{ ref('odd') }}
        {% if execute and env_var('DOES', '') == 'cancel' %}
        where id = (select count(*) from range(1000000000000))
        {% endif %}
        """,
}


def write_contract(project: Path) -> Path:
    output = {
        "type": "duckdb",
        "path": "shop.duckdb",
        "attach": [{"path": str(project / "beside.duckdb"), "alias": "beside"}],
    }
    content = contract(
        *(model("first"), model("beside", "first"), model("odd", "first"), model("last", "odd")),
        config={"executor": "in_process"},
        dbt_profiles={"shop_orders": {"target": "dev", "outputs": {"dev": output}}},
    )
    return write_json(project / "compiled_artifacts.json", content)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a product with a Python model that does what ``DOES`` says, in a DuckDB file with another one attached."""
    project = write_files(tmp_path_factory.mktemp("odd") / "shop", FILES)
    load_product(write_contract(project), manifest_source=manifest_rebuilt)
    return project


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(tmp_path / "home")


@pytest.fixture(autouse=True)
def _without_databases(shop: Path) -> Iterator[None]:
    yield
    for path in shop.glob("*.duckdb*"):
        path.unlink()


def finished(run: JobProcess) -> int:
    """Wait for the end of a run, and return its exit status."""
    try:
        while run.process.poll() is None:
            run.look()
            time.sleep(0.05)
        assert run.ended_within(30), run.alive
        return run.process.returncode
    finally:
        run.end()


def rows(database: Path, table: str, scratch: Path) -> int:
    """Count the rows of a table in a copy of the file alone, as a backup has it."""
    copy = Path(shutil.copy(database, scratch / database.name))
    with duckdb.connect(str(copy), read_only=True) as connection:
        return connection.table(table).shape[0]


@pytest.mark.parametrize(("does", "code", "built"), [("", 0, {"last"}), ("fail", 1, set()), ("stay", 0, {"last"})])
def test_a_copy_of_the_database_file_alone_has_all_rows(  # noqa: PLR0913, PLR0917
    shop: Path, home: Path, tmp_path: Path, does: str, code: int, built: set[str]
) -> None:
    run = JobProcess(shop, home, DOES=does)

    assert finished(run) == code, run.text

    assert rows(shop / "shop.duckdb", "first", tmp_path) == 200_000
    assert rows(shop / "shop.duckdb", "odd", tmp_path) == 3
    assert rows(shop / "beside.duckdb", "main.beside", tmp_path) == 200_000
    assert not list(shop.glob("*.wal"))
    assert tables(shop) == {"first", "odd"} | built


def test_a_copy_of_the_database_file_alone_has_the_rows_of_a_cancelled_run(
    shop: Path, home: Path, tmp_path: Path
) -> None:
    run = JobProcess(shop, home, DOES="cancel")
    try:
        run.wait_for(run.says("Began running node model.shop.last"))
        run.process.terminate()

        assert run.dbt_ended_within(60), run.text
        run.process.wait(timeout=120)
    finally:
        run.end()

    assert rows(shop / "shop.duckdb", "first", tmp_path) == 200_000
    assert rows(shop / "shop.duckdb", "odd", tmp_path) == 3
    assert rows(shop / "beside.duckdb", "main.beside", tmp_path) == 200_000
    assert not list(shop.glob("*.wal"))
    assert tables(shop) == {"first", "odd"}


@pytest.mark.parametrize("of_step", [False, True])
def test_a_model_that_holds_the_interpreter_does_not_outlive_its_killed_run(
    shop: Path, home: Path, *, of_step: bool
) -> None:
    run = JobProcess(shop, home, DOES="hold")
    try:
        run.wait_for(run.says("Began running node model.shop.odd"))
        time.sleep(1)
        victim = run.dbt[0] if of_step else run.process
        victim.send_signal(signal.SIGKILL)

        assert run.dbt_ended_within(20), run.text
        run.process.wait(timeout=120)
    finally:
        run.end()

    assert "first" in tables(shop)


def test_a_model_that_closes_all_files_fails_the_step_by_name(shop: Path, home: Path) -> None:
    run = JobProcess(shop, home, DOES="close")

    assert finished(run) == 1

    assert (
        f"{shop}: dbt was ended because it closed the pipe for its events. Nodes that had not ended: odd." in run.text
    )
    assert "In a Python model, close only files that it has opened. os.closerange also closes others." in run.text
