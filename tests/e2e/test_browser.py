"""The sample product in Dagster's UI: the asset graph, a run of all assets, and the pages of its results."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from playwright.sync_api import expect

from command import invoke

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from e2e.servers import DagsterDev

# Settings of the UI with which the whole graph is readable in one screenshot.
SETTINGS = """
    localStorage.setItem("dagster-nav-collapsed", "true");
    localStorage.setItem("large-screen-nav-open", "false");
    localStorage.setItem("asset-node-facets", JSON.stringify(["checks", "status", "kind-tag"]));
"""
# A point of the graph's page without an asset.
BACKGROUND = (90, 940)
UNFINISHED = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED"}
FCT_ORDERS = "One row per order, with its amounts and payments. Built incrementally: a run reads only the orders of"

LATEST_RUN = "{ runsOrError(limit: 1) { ... on Runs { results { runId status } } } }"
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
EVENTS = """query($run: ID!) {
  logsForRun(runId: $run, limit: 1000) { ... on EventConnection {
    events { ... on MessageEvent { __typename level message } }
  } }
}"""

expect.set_options(timeout=150_000)


@pytest.fixture
def page(dagster_dev: DagsterDev, browser: Browser) -> Iterator[Page]:
    """Open a page without the state of other tests."""
    page = open_page(dagster_dev, browser)
    yield page
    page.close()


@pytest.fixture(scope="module")
def run(dagster_dev: DagsterDev, browser: Browser) -> str:
    """Press "Materialize all", wait for the run to finish, and return its id."""
    page = open_page(dagster_dev, browser)
    open_graph(page)
    page.get_by_role("button", name="Materialize all (18)").click()
    expect(page.get_by_text("Launched run")).to_be_visible()
    page.close()
    [latest] = dagster_dev.graphql(LATEST_RUN)["runsOrError"]["results"]
    run: str = latest["runId"]
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and status(dagster_dev, run) in UNFINISHED:
        time.sleep(1)
    return run


def open_page(dev: DagsterDev, browser: Browser) -> Page:
    page = browser.new_page(base_url=dev.url, viewport={"width": 1600, "height": 900}, color_scheme="light")
    page.add_init_script(SETTINGS)
    return page


def open_graph(page: Page) -> None:
    """Open the global asset lineage and expand its groups."""
    page.goto("/asset-groups")
    expect(page.locator("svg").get_by_text("retail_orders", exact=True)).to_be_visible()
    page.keyboard.press("Alt+E")
    expect(page.get_by_text("stg_customers", exact=True)).to_be_visible()


def status(dev: DagsterDev, run: str) -> str:
    return str(dev.graphql(STATUS, run=run)["runOrError"]["status"])


def events(dev: DagsterDev, run: str) -> list[dict[str, Any]]:
    return list(dev.graphql(EVENTS, run=run)["logsForRun"]["events"])


def zoom_to_fit(page: Page) -> None:
    """Hide the list of assets, and fit the graph into the page, where its nodes show their details.

    A double click on the background fits the graph once its layout is complete. Dagster places it too high: it is
    dragged down until the headers of the groups are visible.
    """
    page.set_viewport_size({"width": 1600, "height": 1000})
    page.get_by_role("button", name="panel_show_right").click()
    expect(page.get_by_role("combobox", name="Jump to")).to_be_hidden()
    for _ in range(10):
        page.mouse.dblclick(*BACKGROUND)
        page.wait_for_timeout(1000)
        if page.get_by_text("Materialized", exact=True).count():
            break
    page.mouse.down()
    page.mouse.move(BACKGROUND[0], BACKGROUND[1] + 45, steps=5)
    page.mouse.up()
    page.wait_for_timeout(500)


def test_asset_graph_shows_the_products_assets(page: Page, tmp_path: Path) -> None:
    open_graph(page)

    for name in ("customers", "stg_orders", "int_order_payments", "fct_orders", "dim_customers", "fct_daily_revenue"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()

    page.screenshot(path=tmp_path / "asset-graph-before.png")


def test_materialize_all_succeeds_and_runs_every_check(dagster_dev: DagsterDev, run: str) -> None:
    kinds = [event["__typename"] for event in events(dagster_dev, run)]

    assert status(dagster_dev, run) == "SUCCESS", dagster_dev.log.read_text()
    assert kinds.count("MaterializationEvent") == 18
    assert kinds.count("AssetCheckEvaluationEvent") == 80


def test_run_log_has_no_warnings_and_no_errors(dagster_dev: DagsterDev, run: str) -> None:
    noise = [event["message"] for event in events(dagster_dev, run) if event["level"] in {"WARNING", "ERROR"}]

    assert noise == []


def test_page_shows_the_run_as_succeeded(page: Page, run: str) -> None:
    page.goto(f"/runs/{run}")

    expect(page.get_by_role("img", name="run_success").first).to_be_visible()
    expect(page.get_by_text("Success", exact=True)).to_be_visible()


@pytest.mark.usefixtures("run")
def test_graph_shows_every_asset_as_materialized(page: Page, screenshots: Path) -> None:
    open_graph(page)
    zoom_to_fit(page)

    expect(page.get_by_text("Materialized", exact=True)).to_have_count(18)
    # fct_orders and stg_orders
    expect(page.get_by_text("7 / 7 Passed", exact=True)).to_have_count(2)
    page.screenshot(path=screenshots / "asset-graph.png")


@pytest.mark.usefixtures("run")
def test_asset_page_shows_description_columns_and_checks(page: Page) -> None:
    page.goto("/assets/fct_orders")

    expect(page.get_by_text(FCT_ORDERS)).to_be_visible()
    for column, description in (
        ("order_id", "Number of the order."),
        ("customer_id", "Customer who placed the order."),
    ):
        expect(page.get_by_text(column, exact=True).first).to_be_visible()
        expect(page.get_by_text(description, exact=True).first).to_be_visible()
    page.get_by_role("tab", name="Checks").or_(page.get_by_role("link", name="Checks")).first.click()
    expect(page.get_by_text("Checks (7)", exact=True)).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(7)


def test_asset_page_shows_owner_tags_and_file(page: Page) -> None:
    page.goto("/assets/fct_orders?view=overview")

    for text in (
        "retail-data@example.com",
        "floe/product: retail-orders",
        "floe/tier: gold",
        "floe/compute: duckdb",
        "daily",
    ):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    expect(page.get_by_role("link", name="models/marts/fct_orders.sql")).to_be_visible()


def test_check_page_shows_what_the_contract_declares(page: Page) -> None:
    page.goto("/assets/stg_customers?view=checks&checkDetail=unique_stg_customers_customer_id")

    expect(page.get_by_text("This is a blocking asset check.")).to_be_visible()
    expect(page.get_by_text("customer_id_unique: unique of customer_id (consistency, critical)")).to_be_visible()


def test_schedule_page_shows_the_next_tick_in_its_timezone(page: Page) -> None:
    page.goto("/automation")
    page.get_by_text("retail_orders_schedule", exact=True).first.click()

    expect(page.get_by_text(re.compile(r"^At 06:00 AM E[SD]T, Monday through Friday"))).to_be_visible()
    expect(page.get_by_text("America/New_York", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile(r"^[A-Z][a-z]{2} \d+, 6:00:00 AM E[SD]T"))).to_be_visible()


def test_timeline_draws_every_node_of_the_run(
    dagster_dev: DagsterDev, page: Page, run: str, screenshots: Path, tmp_path: Path
) -> None:
    drawing, home = tmp_path / "run.html", dagster_dev.log.parent / "home"
    artifacts = dagster_dev.project / "compiled_artifacts.json"

    answer = invoke("timeline", run, artifacts, "--output", drawing, DAGSTER_HOME=str(home))
    page.goto(drawing.as_uri())

    assert answer.exit_code == 0, answer.stderr
    page.set_viewport_size({"width": 1200, "height": 760})
    expect(page.get_by_role("img", name="Nodes of the run in time")).to_be_visible()
    expect(page.locator("rect")).to_have_count(98)
    expect(page.get_by_role("heading", name="Critical path")).to_be_in_viewport()
    page.screenshot(path=screenshots / "timeline.png")


@pytest.mark.usefixtures("run")
def test_warehouse_has_the_rows_that_the_run_built(dagster_dev: DagsterDev) -> None:
    expected = {
        "customer_lifetime_value": 520,
        "customers_snapshot": 600,
        "dim_customers": 600,
        "dim_products": 60,
        "fct_daily_revenue": 547,
        "fct_orders": 4000,
        "product_performance": 60,
    }

    with duckdb.connect(str(dagster_dev.project / "warehouse" / "retail_orders.duckdb"), read_only=True) as warehouse:
        rows = {table: warehouse.table(table).count("*").fetchall()[0][0] for table in expected}

    assert rows == expected
