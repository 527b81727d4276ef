"""``floe-dagster prepare``: install dbt packages and parse the dbt project."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import (
    artifacts_argument,
    artifacts_path,
    as_json,
    echo_json,
    echo_message,
    errors_reported,
    progress,
)
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@artifacts_argument
@click.option("--no-deps", is_flag=True, help="Use the dbt packages that are installed; never run `dbt deps`.")
@as_json
def prepare(artifacts: Path | None, *, no_deps: bool, as_json: bool) -> None:
    """Install dbt packages and parse the dbt project with the compiled profile.

    Run it in image builds and CI: afterwards the code location loads without running dbt. ARTIFACTS is the product's
    compiled_artifacts.json. The default is FLOE_ARTIFACTS_PATH. The command needs no secrets. Only `dbt deps` uses the
    network. `dbt deps` is skipped when package-lock.yml is up to date and all its packages are installed.

    \b
    Example:
      floe-dagster prepare dbt_project/compiled_artifacts.json

    Exits with 0 on success, 1 when the product or the dbt project has an error, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    with errors_reported(), progress("Parsing the dbt project"):
        from floe_orchestrator_dagster.automation.cron import declared_schedule
        from floe_orchestrator_dagster.product import (
            load_product,
            manifest_parsed_offline,
            manifest_rebuilt,
            parse_for_computes,
        )

        path = artifacts_path(artifacts)
        source = manifest_parsed_offline if no_deps else manifest_rebuilt
        product = load_product(path, manifest_source=source)
        parse_for_computes(product, source)
        declared_schedule(product)
    if not product.models:
        if as_json:
            echo_json({"product": product.name, "manifest": None, "assets": 0})
        else:
            click.echo(f"{product.name}: the product declares no transforms, so there is nothing to prepare")
        return
    if product.dbt is None:
        echo_message("error", f"{path}: no dbt project to prepare. Set FLOE_DBT_PROJECT_DIR to it.")
        sys.exit(1)
    manifest = product.dbt.manifest
    if as_json:
        echo_json({"product": product.name, "manifest": str(manifest.path), "assets": len(manifest.asset_nodes)})
    else:
        click.echo(f"{product.name}: {counted(len(manifest.asset_nodes), 'dbt asset')} in {manifest.path}")
