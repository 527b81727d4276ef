"""Runs that do not count, failed runs and killed runs hide no change of the code of an incremental model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.execution.step.build_marks import mark_started
from integration.failing_shop import logged
from integration.test_changed_builds import Shop, built

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOG = dg.AssetKey("log")
CODE = "{{{{ config(materialized='incremental') }}}} select {} as code"
CHANGED = "incremental models whose code has changed: log"


def warnings(shop: Shop, **options: object) -> int:
    """Build the incremental model, and count the warnings about its code."""
    result = shop.result("log", **options)
    assert built(result) == {"log"}
    return logged(shop.instance, result.run_id, "WARNING").count(CHANGED)


@pytest.mark.parametrize("options", [{"vars": {"owner": "them"}}, {"empty": True}])
def test_first_build_that_does_not_count_hides_no_later_change_of_code(
    tmp_path: Path, instance: dg.DagsterInstance, options: Mapping[str, object]
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core")
    shop.write("models/log.sql", CODE.format(1))
    assert warnings(shop, **options) == 0

    shop.write("models/log.sql", CODE.format(2))
    assert warnings(shop) == 1
    assert shop.rows("log") == [(1,), (2,)]


def test_killed_first_build_hides_no_later_change_of_code(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", full_refresh_on_change=True)
    shop.write("models/log.sql", CODE.format(1))
    [(_, found)] = shop.plan().decisions
    code = found.known.fingerprints["model.shop_orders.log"]
    mark_started(instance, "killed", found.history, [LOG], {LOG: code})
    shop.execute("create table log as select 1 as code")  # dbt's commit, before the run was killed

    shop.write("models/log.sql", CODE.format(2))
    assert built(shop.result("log")) == {"log"}
    assert shop.rows("log") == [(2,)]


def test_build_that_failed_says_nothing_about_the_rows_of_its_table(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", full_refresh_on_change=True)
    shop.write("models/log.sql", CODE.format(1))
    shop.result("log")
    shop.write("models/log.sql", CODE.format("cast('text' as int)"))
    assert not shop.result("log").success

    shop.write("models/log.sql", CODE.format(1))
    assert built(shop.result("log")) == {"log"}
    assert shop.rows("log") == [(1,), (1,)]
