"""A real daemon ticks: it launches what a schedule, a sensor and a failed run ask for, and ends what takes too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.shop import captured, dbt_processes, ended, eventually, messages, ran, run_of, runs, tags

if TYPE_CHECKING:
    from e2e.servers import DagsterDev
    from e2e.shop import ShopDev


@pytest.fixture
def dev(shop_dev: ShopDev) -> DagsterDev:
    return shop_dev.dev


def test_schedule_builds_its_selection_every_minute(dev: DagsterDev) -> None:
    run = runs(dev, "shop_orders")[0]

    assert ended(dev, run["runId"]) == "SUCCESS"
    assert run["assetSelection"] == [{"path": ["often"]}]
    assert run["assets"] == [{"key": {"path": ["often"]}}]
    assert run["assetChecks"] == [{"name": "unique_often_id"}]


def test_terminal_shows_one_line_per_node_and_the_page_has_dbts_log(dev: DagsterDev) -> None:
    run = runs(dev, "shop_orders")[0]["runId"]
    ended(dev, run)

    assert "Began running node model.shop_orders.often" in captured(dev, run)
    terminal = dev.log.read_text(encoding="utf-8", errors="replace")
    assert "/2 success model often, " in terminal
    assert "Began running node" not in terminal


def test_scheduled_run_carries_the_schedules_tags_and_the_products(dev: DagsterDev) -> None:
    carried = tags(runs(dev, "shop_orders")[0])

    assert carried["dagster/schedule_name"] == "every_minute"
    assert carried["team"] == "finance"
    assert carried["floe/product"] == "shop-orders"
    assert carried["dagster/max_runtime"] == "600"


def test_sensor_launches_the_job_that_follows(dev: DagsterDev) -> None:
    eventually(dev, lambda: bool(runs(dev, "afterwards")))
    carried = tags(runs(dev, "afterwards")[0])

    assert carried["dagster/sensor_name"] == "follow"
    # On a slow machine there is more than one that waited for the database.
    assert carried["dagster/run_key"] in {run["runId"] for run in runs(dev, "shop_orders")}


def test_run_that_takes_too_long_is_ended_and_its_log_names_what_was_running(shop_dev: ShopDev) -> None:
    assert ended(shop_dev.dev, shop_dev.stuck) == "FAILURE"

    # The daemon says so first, and the run's own process when it ends.
    eventually(
        shop_dev.dev,
        lambda: "dbt was ended before these nodes had ended: waiting" in messages(shop_dev.dev, shop_dev.stuck),
    )
    assert "Exceeded maximum runtime of 1 seconds" in messages(shop_dev.dev, shop_dev.stuck)
    eventually(shop_dev.dev, lambda: not dbt_processes(shop_dev.dev, shop_dev.stuck), seconds=10)


def test_sensor_ends_the_lineage_of_a_run_whose_process_was_killed(shop_dev: ShopDev) -> None:
    dev, killed = shop_dev.dev, shop_dev.killed
    node, product = "model.shop_orders.waiting", "shop-orders"
    assert ended(dev, killed) == "FAILURE"
    # The sensor's tag counts what had arrived within a second, which on a slow machine is less than in the end.
    eventually(dev, lambda: {(node, "ABORT"), (product, "FAIL")} <= set(shop_dev.emitted_by(killed)))
    eventually(dev, lambda: "floe/lineage_after_run.shop_orders" in tags(run_of(dev, killed)))

    assert set(shop_dev.emitted_by(killed)) == {(node, "ABORT"), (node, "START"), (product, "FAIL"), (product, "START")}
    assert tags(run_of(dev, killed))["floe/lineage_after_run.shop_orders"].endswith(f" of {killed}")


def test_run_says_that_it_waits_for_the_database_of_another(shop_dev: ShopDev) -> None:
    ended(shop_dev.dev, shop_dev.broken)

    database = shop_dev.dev.project / "shop.duckdb"
    assert f"waiting for {database}, which another run of dbt uses" in messages(shop_dev.dev, shop_dev.broken)


def test_daemon_retries_a_failed_run_with_what_was_left(shop_dev: ShopDev) -> None:
    dev = shop_dev.dev
    assert ended(dev, shop_dev.broken) == "FAILURE"
    assert ran(dev, shop_dev.broken) == {"steady": "success", "broken": "error", "after_broken": "skipped"}

    eventually(dev, lambda: len(runs(dev, "fragile")) > 1)
    retry = runs(dev, "fragile")[1]
    assert ended(dev, retry["runId"]) == "FAILURE"

    carried = tags(run_of(dev, retry["runId"]))
    assert carried["dagster/parent_run_id"] == shop_dev.broken
    assert carried["dagster/retry_number"] == "1"
    assert carried["dagster/is_resume_retry"] == "true"
    assert ran(dev, retry["runId"]) == {"broken": "error", "after_broken": "skipped"}
