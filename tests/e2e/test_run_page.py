"""Actions on a run's page: resume a failed run, terminate one that hangs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import duckdb
import pytest
from playwright.sync_api import expect

from e2e.shop import captured, dbt_processes, ended, eventually, launch, messages, ran, runs, tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from e2e.shop import ShopDev

expect.set_options(timeout=150_000)


@pytest.fixture
def page(shop_dev: ShopDev, browser: Browser) -> Iterator[Page]:
    """Open a page that remembers nothing of another test."""
    page = browser.new_page(base_url=shop_dev.dev.url, viewport={"width": 1600, "height": 900})
    yield page
    page.close()


def test_re_execute_from_failure_builds_what_was_left(shop_dev: ShopDev, page: Page) -> None:
    dev = shop_dev.dev
    eventually(dev, lambda: len(runs(dev, "fragile")) > 1)
    for run in runs(dev, "fragile"):
        ended(dev, run["runId"])  # it is retried by the daemon, which gives up then
    (dev.project / "mended.csv").write_text("id\n1\n", encoding="utf-8")

    page.goto(f"/runs/{shop_dev.broken}")
    page.get_by_role("button", name="Re-execute all (*)").locator("xpath=following::button[1]").click()
    page.get_by_role("menuitem", name="From failure").click()

    eventually(dev, lambda: len(runs(dev, "fragile")) > 2)
    resumed = runs(dev, "fragile")[2]
    assert ended(dev, resumed["runId"]) == "SUCCESS"
    carried = tags(resumed)
    assert (carried["dagster/parent_run_id"], carried["dagster/is_resume_retry"]) == (shop_dev.broken, "true")
    assert ran(dev, resumed["runId"]) == {"broken": "success", "after_broken": "success"}


def test_terminate_ends_dbt_and_leaves_a_usable_database(shop_dev: ShopDev, page: Page) -> None:
    dev = shop_dev.dev
    eventually(dev, lambda: not dbt_processes(dev))
    run = launch(dev, "stuck")
    eventually(dev, lambda: "Began running node model.shop_orders.waiting" in captured(dev, run))

    page.goto(f"/runs/{run}")
    page.get_by_role("button", name="Terminate").first.click()  # its icon is part of its name
    page.get_by_role("button", name="Terminate 1 run").click()

    eventually(dev, lambda: "Sending run termination request" in messages(dev, run))
    since = time.monotonic()
    eventually(dev, lambda: not dbt_processes(dev))
    assert time.monotonic() - since < 30  # the model would sleep for ever
    assert ended(dev, run) == "CANCELED"
    expect(page.get_by_text("Canceled", exact=True)).to_be_visible()
    with duckdb.connect(str(dev.project / "shop.duckdb")) as database:
        assert database.sql("select count(*) from duckdb_tables() where table_name = 'waiting'").fetchall() == [(0,)]
