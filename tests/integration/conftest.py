"""A small dbt project of a user, compiled by floe's compiler."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dbt_v2 import engine_config
from files import write_files
from integration.failing_shop import SECRET, write_shop
from lineage_backend import serving
from processes import floe_compile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lineage_backend import LineageServer

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


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Give an instance whose runs can be re-executed."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture(scope="session")
def _parsed_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("runs") / "shop")


@pytest.fixture
def shop(_parsed_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project in which `flaky` fails, and a test of `checked`."""
    project = Path(shutil.copytree(_parsed_shop, tmp_path / "shop"))
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(project / "compiled_artifacts.json"))
    return project


@pytest.fixture(params=["core", "v2"])
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    """Give each dbt engine in turn, as keys of ``dbt`` in a product's configuration."""
    return engine_config(request.param)


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LineageServer]:
    """Serve a lineage backend for the test's runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with serving() as served:
        monkeypatch.setenv("OPENLINEAGE_URL", served.url.removesuffix("/api/v1/lineage"))
        yield served
