"""``floe-dagster workspace``: serve several products in one ``dagster dev``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from floe_orchestrator_dagster.commands.answers import echo_dagster_commands, errors_reported
from floe_orchestrator_dagster.wording import counted


@click.command()
@click.argument("products", nargs=-1, required=True, metavar="PRODUCT_DIR...", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("workspace.yaml"),
    show_default=True,
    help="File to write.",
)
def workspace(products: tuple[Path, ...], output: Path) -> None:
    """Serve several products in one `dagster dev`, each as a code location.

    The command writes workspace.yaml, and a definitions.py to each PRODUCT_DIR, which loads the compiled_artifacts.json
    there. Two products must not build the same asset key. A dbt source depends on an asset of another product when its
    meta.dagster.asset_key is the asset's key. The command parses dbt projects whose manifest is missing or outdated.

    \b
    Example:
      floe-dagster workspace orders returns
      dagster dev --workspace workspace.yaml

    Exits with 0 on success, 1 when a product is not valid or asset keys collide (no file is written then), 2 on wrong
    usage.
    """  # noqa: D301  # click reads the \b
    from floe_orchestrator_dagster.workspace import write_workspace

    with errors_reported():
        written = write_workspace(products, output)
    for location in written.locations:
        click.echo(f"{location.name}: {location.file} ({counted(location.assets, 'asset')})")
    for edge in written.edges:
        click.echo(f"{edge.product} reads the asset {edge.key} of {edge.owner}")
    echo_dagster_commands([f"dagster dev --workspace {shlex.quote(str(output))}"])
