"""The ``floe-dagster`` command."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from floe_orchestrator_dagster import __version__
from floe_orchestrator_dagster.errors import FloeDagsterError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="floe-dagster")
def main() -> None:
    """Run floe data products in Dagster."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


@main.command()
@click.argument("artifacts", required=False, type=click.Path(path_type=Path))
def prepare(artifacts: Path | None) -> None:
    """Install dbt packages and parse the dbt project with the compiled profile.

    For image builds and CI: afterwards the code location loads without running dbt. ARTIFACTS is the product's
    compiled_artifacts.json; FLOE_ARTIFACTS_PATH when left out. No secrets are needed, nothing connects.

    \b
    Example:
      floe-dagster prepare dbt_project/compiled_artifacts.json

    Exits with 1 when the product or the dbt project has an error, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    from floe_orchestrator_dagster.automation.cron import declared_schedule
    from floe_orchestrator_dagster.product import artifacts_path_from_environment, load_product, manifest_made_anew

    try:
        path = artifacts.absolute() if artifacts else artifacts_path_from_environment()
        product = load_product(path, manifest_source=manifest_made_anew)
        declared_schedule(product)
    except FloeDagsterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if not product.models:
        click.echo(f"{product.name}: declares no transforms, nothing to prepare")
        return
    if product.dbt is None:
        click.echo(f"error: {path}: no dbt project to prepare. Set FLOE_DBT_PROJECT_DIR to it.", err=True)
        sys.exit(1)
    manifest = product.dbt.manifest
    click.echo(f"{product.name}: {len(manifest.asset_nodes)} dbt assets in {manifest.path}")
