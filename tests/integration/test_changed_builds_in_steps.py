"""With `build: changed` and several steps, a run builds what an earlier run has not built, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from files import write_files
from integration.test_changed_builds import ALL, Shop, built, reused

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

BROKEN = "select *, cast('text' as int) as one from {{ source('landing', 'orders') }}"
LANDING = {"landing/orders.csv": "id,amount\n1,30\n"}


def test_run_after_a_failed_first_step_builds_what_failed_and_what_reads_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", steps=[{"select": "stg regions", "name": "first"}])
    shop.write("models/stg.sql", "{{ config(materialized='table') }} select * from {{ source('landing', 'orders') }}")
    assert shop.run() == ALL

    write_files(shop.directory, LANDING)
    shop.write("models/stg.sql", "{{ config(materialized='table') }} " + BROKEN)
    failed = shop.result()
    assert not failed.success
    shop.write("models/stg.sql", "{{ config(materialized='table') }} select * from {{ source('landing', 'orders') }}")

    assert shop.planned() == {
        "stg": f"run {failed.run_id[:8]} started to build it, and has recorded no result",
        "mart": "stg is built",
    }
    repaired = shop.result()
    assert repaired.success
    assert reused(repaired).keys() == {"names"}
    assert {"stg", "mart"} <= built(repaired)
    assert shop.rows("mart") == [(30,)]
    assert shop.planned() == {}
