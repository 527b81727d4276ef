"""Builds of a database that another or older one has replaced do not count."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from floe_orchestrator_dagster.execution.dbt.duckdb_tables import database_iteration
from floe_orchestrator_dagster.execution.step.database_epochs import (
    Database,
    database_epoch,
    note_database,
    note_epoch,
)
from floe_orchestrator_dagster.upstream.dagster_history import store_values, stored_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["in memory", "files"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Give an instance that is gone after the test: one database, or SQLite's database per run."""
    is_in_memory = request.param == "in memory"
    with dg.DagsterInstance.ephemeral() if is_in_memory else dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def test_builds_of_a_file_that_an_older_one_has_replaced_do_not_count(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    file, backup = tmp_path / "shop.duckdb", tmp_path / "backup.duckdb"

    def write() -> None:
        with duckdb.connect(str(file)) as connection:
            connection.execute("create or replace table t as select 1")

    def database() -> Database:
        return Database(f"file {file}", "", database_iteration(file))

    write()
    assert database_epoch(instance, database()) == 0
    shutil.copy(file, backup)
    write()
    note_database(instance, database(), 0)
    write()
    assert database_epoch(instance, database()) == 0

    shutil.copy(backup, file)
    assert database_epoch(instance, database()) == 1
    note_epoch(instance, database(), 1)
    write()
    write()
    assert database_epoch(instance, database()) == 1
    file.unlink()
    assert database_epoch(instance, database()) == 2
    assert database_epoch(instance, None) == 0


def test_builds_in_a_database_that_another_one_has_replaced_do_not_count(instance: dg.DagsterInstance) -> None:
    def database(identity: str, written: int) -> Database:
        return Database("database shop", identity, written)

    assert database_epoch(instance, database("a", 5)) == 0
    note_database(instance, database("a", 5), 0)
    assert database_epoch(instance, database("a", 5)) == 0
    assert database_epoch(instance, database("a", 4)) == 1
    assert database_epoch(instance, database("b", 9)) == 1

    note_epoch(instance, database("b", 9), 1)
    assert database_epoch(instance, database("b", 10)) == 1
    assert database_epoch(instance, Database("database other", "a", 1)) == 0


def test_epoch_of_a_database_never_goes_back(instance: dg.DagsterInstance) -> None:
    def database(written: int) -> Database:
        return Database("database shop", "a", written)

    note_database(instance, database(9), 0)
    epoch = database_epoch(instance, database(5))
    note_epoch(instance, database(5), epoch)
    # A run that started before the database was replaced ends after it.
    note_database(instance, database(12), 0)

    assert (epoch, database_epoch(instance, database(6))) == (1, 1)


def test_damaged_state_of_a_database_starts_a_new_epoch(instance: dg.DagsterInstance) -> None:
    database = Database("database shop", "a", 5)
    note_database(instance, database, 3)
    key = f"floe/build {hashlib.sha256(b'database shop').hexdigest()[:40]}"
    assert key in stored_values(instance, [key])
    store_values(instance, {key: "{"})

    assert database_epoch(instance, database) > 3
