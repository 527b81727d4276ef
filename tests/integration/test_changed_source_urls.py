"""Sources that are files on a web server: their tables are built when the server says that the files have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from file_server import file_server
from files import write_files
from integration.failing_shop import logged
from integration.test_changed_builds import Shop, built

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

# DuckDB would need an extension to read the file.
CODE = "{% set file = source('landing', 'orders') %} select 1 as id, 30 as amount"
SOURCE = """
    sources:
      - name: landing
        tables: [{name: orders, config: {meta: {external_location: "%s"}}}]
    """


def test_changed_file_of_a_web_server_is_read_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "core")
    with file_server() as served:
        schema = shop.files["models/schema.yml"]
        columns = schema[schema.index("        models:") :]
        write_files(shop.directory, {"models/stg.sql": CODE, "models/sources.yml": SOURCE % served.url})
        shop.write("models/schema.yml", columns)
        assert shop.run() == {"stg", "mart", "names", "regions"}
        assert shop.run() == set()
        served.change('"2"')
        assert shop.planned() == {"stg": "the data of landing.orders has changed since then", "mart": "stg is built"}
        assert shop.run() == {"stg", "mart"}
        assert shop.run() == set()
        served.status = 503
        result = shop.result()
        assert built(result) == {"stg", "mart"}
        shown = "source.shop_orders.landing.orders counts as changed: its server responded with status 503"
        assert logged(shop.instance, result.run_id, "WARNING").count(shown) == 1
        served.status = 200
        assert shop.run() == {"stg", "mart"}
        assert shop.run() == set()
