"""Screenshots of the pages of assets and checks, for the documentation.

Builds a product in one process, serves it with Dagster's webserver, and takes a picture of each page with Chromium::

    PYTHONPATH=tests .venv/bin/python scripts/screenshots.py ARTIFACTS DIRECTORY PAGE...

A page is the path of an asset, such as ``exposure/dashboard``, or of its checks, such as ``orders?view=checks``.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import dagster as dg
from playwright.sync_api import sync_playwright

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product

_MODULE = "floe_orchestrator_dagster.definitions"
_NO_SIDEBAR = 'localStorage.setItem("dagster-nav-collapsed", "true")'


def main(artifacts: Path, directory: Path, pages: list[str]) -> None:
    """Write one PNG file for each page into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="floe-screenshots-") as scratch:
        home = dagster_home(Path(scratch) / "home")
        os.environ["DAGSTER_HOME"] = str(home)
        name = _build(artifacts)
        workspace = Path(scratch) / "workspace.yaml"
        workspace.write_text(f"load_from: [{{python_module: {{module_name: {_MODULE}, location_name: {name}}}}}]\n")
        log, port = Path(scratch) / "webserver.log", free_port()
        dev = DagsterDev(f"http://127.0.0.1:{port}", artifacts.parent, log)
        environment = {"FLOE_ARTIFACTS_PATH": str(artifacts), "DAGSTER_HOME": str(home)}
        arguments = ["-w", str(workspace), "--host", "127.0.0.1", "--port", str(port)]
        with server(*arguments, log=log, module="dagster_webserver", **environment) as process:
            wait_until(lambda: answers(dev), 600, process, log)
            _take(dev.url, directory, pages)


def _build(artifacts: Path) -> str:
    """Run the product's job, whose checks may fail; return the product's name."""
    product = load_product(artifacts)
    job = definitions_from_file(artifacts).resolve_job_def(product.identifier)
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    print(f"{product.name}: {'succeeded' if result.success else 'failed'}")  # noqa: T201
    return product.name


def _take(url: str, directory: Path, pages: list[str]) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(base_url=url, viewport={"width": 1500, "height": 1150}, color_scheme="light")
        page.set_default_timeout(180_000)
        page.add_init_script(_NO_SIDEBAR)
        for path in pages:
            page.goto(f"/assets/{path}")
            page.get_by_role("tab", name="Overview").wait_for()
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(3000)
            page.screenshot(path=directory / f"{re.sub(r'[^a-z0-9_]+', '-', path.lower())}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]), sys.argv[3:])
