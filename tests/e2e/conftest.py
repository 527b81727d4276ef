"""A running Dagster with the sample product, and the browser that looks at it."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e import shop
from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from lineage_backend import serving
from workers import shared_by_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).parents[2]
_GENERATED = shutil.ignore_patterns("target", "logs", "warehouse", "dbt_packages", ".user.yml")
_ARGUMENTS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def dagster_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """Serve an unprepared copy of the sample with the repository's workspace, as ``make dev`` does, for all workers."""
    with shared_by_workers(tmp_path_factory, "dagster_dev", _dagster_dev) as found:
        yield DagsterDev(found["url"], Path(found["project"]), Path(found["log"]))


@contextmanager
def _dagster_dev(directory: Path) -> Iterator[dict[str, str]]:
    project = Path(shutil.copytree(REPOSITORY / "dbt_project", directory / "dbt_project", ignore=_GENERATED))
    # One more column of nodes would make the graph so wide that the page hides the nodes' details.
    (project / "models" / "marts" / "_exposures.yml").unlink()
    home, log, port = dagster_home(directory / "home"), directory / "dagster_dev.log", free_port()
    dev = DagsterDev(f"http://127.0.0.1:{port}", project, log)
    arguments = ["--workspace", str(REPOSITORY / "workspace.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    environment = {"FLOE_ARTIFACTS_PATH": str(project / "compiled_artifacts.json"), "DAGSTER_HOME": str(home)}
    with server("dev", *arguments, log=log, **environment) as process:
        wait_until(lambda: answers(dev), 600, process, log)
        yield {"url": dev.url, "project": str(project), "log": str(log)}


@pytest.fixture(scope="session")
def shop_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[shop.ShopDev]:
    """Serve a small product whose first runs are killed, stuck and broken, and that a schedule has built once.

    All that takes a minute: the runs go on while others are waited for. It is done once for all workers.
    """
    with shared_by_workers(tmp_path_factory, "shop_dev", _shop_dev) as found:
        dev = DagsterDev(found["url"], Path(found["project"]), Path(found["log"]))
        yield shop.ShopDev(dev, found["killed"], found["stuck"], found["broken"], found["lineage"])


@contextmanager
def _shop_dev(directory: Path) -> Iterator[dict[str, str]]:
    project = directory / "shop"
    home, log, port = dagster_home(directory / "home", shop.INSTANCE), directory / "dagster_dev.log", free_port()
    dev = DagsterDev(f"http://127.0.0.1:{port}", project, log)
    arguments = ["-m", shop.LOCATION, "--host", "127.0.0.1", "--port", str(port)]
    with ExitStack() as servers:
        lineage = servers.enter_context(serving()).url
        environment = {"FLOE_ARTIFACTS_PATH": str(shop.write_shop(project, lineage)), "DAGSTER_HOME": str(home)}
        process = servers.enter_context(server("dev", *arguments, log=log, **environment))
        wait_until(lambda: answers(dev), 600, process, log)
        both = [shop.launch(dev, "stuck", max_retries="0") for _ in range(2)]
        wait_until(lambda: any(shop.is_building(dev, run_id) for run_id in both), 600, process, log)
        killed = shop.kill_one(dev, both)
        [stuck] = set(both) - {killed}
        wait_until(lambda: shop.is_building(dev, stuck), 600, process, log)
        broken = shop.launch(dev, "fragile")
        wait_until(lambda: "waiting for" in shop.messages(dev, broken), 600, process, log)
        shop.limit(dev, stuck, seconds=1)
        wait_until(lambda: bool(shop.runs(dev, "shop_orders")), 600, process, log)
        shop.stop_schedules(dev)
        runs = {"killed": killed, "stuck": stuck, "broken": broken}
        yield {"url": dev.url, "project": str(project), "log": str(log), "lineage": lineage, **runs}


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Run a browser; not for the whole session, because Playwright keeps an event loop running."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    return found or _missing("no chromium on the PATH; install it: apt-get install chromium")


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of screenshots: ``FLOE_SCREENSHOTS`` for those in the docs, else a temporary directory."""
    named = os.environ.get("FLOE_SCREENSHOTS")
    directory = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _missing(reason: str) -> str:
    """Skip on a person's machine; fail in CI, where a skipped test would go unnoticed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
