"""The module that docs/how-to/extend.md shows, run by Dagster on the sample product."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import dagster as dg

from conftest import REPOSITORY
from processes import run_python

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = REPOSITORY / "docs" / "how-to" / "extend.md"


def test_module_of_the_page_serves_the_product_and_its_own_definitions(prepared_sample: Path, tmp_path: Path) -> None:
    [module] = re.findall(r"^```python\n(.*?)^```", _PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    location = tmp_path / "shop_location.py"
    location.write_text(module, encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "DAGSTER_HOME": str(home),
        "FLOE_ARTIFACTS_PATH": str(prepared_sample / "compiled_artifacts.json"),
        "WAREHOUSE_PATH": str(prepared_sample / "warehouse" / "retail_orders.duckdb"),
    }

    execute = ("-m", "dagster", "job", "execute", "-f", str(location), "-j", "stores_and_report")
    run_python(*execute, check=True, **environment)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        stores, report = (
            instance.get_latest_materialization_event(dg.AssetKey(key)) for key in ("stores", "store_report")
        )
        key = dg.AssetCheckKey(dg.AssetKey("stores"), "one_online_store")
        [check] = instance.event_log_storage.get_asset_check_execution_history(key, 2)
    assert stores is not None
    assert stores.asset_materialization is not None
    assert report is not None
    assert report.asset_materialization is not None
    assert report.asset_materialization.metadata["cities"].value == 11
    assert check.status.value == "SUCCEEDED"
