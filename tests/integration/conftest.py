"""A small dbt project that somebody else wrote, compiled by floe's own compiler."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from processes import floe_compile

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {
    "dbt_project.yml": """
        name: jaffle
        version: "1.0.0"
        profile: jaffle_shop
        target-path: build/dbt
        """,
    "seeds/raw_orders.csv": """
        id,amount
        1,10
        2,20
        """,
    "models/orders.sql": "select id, amount from {{ ref('raw_orders') }}",
    "models/totals.sql": "{{ config(materialized='table') }} select sum(amount) as total from {{ ref('orders') }}",
    "models/schema.yml": """
        models:
          - name: orders
            columns:
              - name: id
                data_tests: [unique]
        """,
    "floe.yaml": """
        apiVersion: floe.dev/v1
        kind: FloeSpec
        metadata: {name: jaffle-shop, version: 2.0.0, owner: kitchen}
        platform: {manifest: manifest.yaml}
        transforms:
          - {name: orders}
          - {name: totals, dependsOn: [orders]}
        """,
    "manifest.yaml": """
        apiVersion: floe.dev/v1
        kind: Manifest
        metadata: {name: kitchen, version: 1.0.0, owner: kitchen@example.com}
        plugins:
          compute: {type: duckdb, config: {path: "data/{product_slug}.duckdb"}}
          orchestrator: {type: dagster, config: {default_schedule: "@daily", key_prefix: [kitchen]}}
        """,
}


@pytest.fixture(scope="session")
def _compiled_stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("stranger") / "jaffle", FILES)
    floe_compile(project, "--generate-definitions")
    return project


@pytest.fixture
def stranger(_compiled_stranger: Path, tmp_path: Path) -> Path:
    """Give a fresh copy of the compiled project, with ``target/definitions.py``, not yet parsed."""
    return Path(shutil.copytree(_compiled_stranger, tmp_path / "jaffle"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Give an instance that is gone after the test, its directory too."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
