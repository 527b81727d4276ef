"""``floe-dagster workspace``: serve several products in one ``dagster dev``."""

from __future__ import annotations

from pathlib import Path

import click

from floe_orchestrator_dagster.commands.answers import errors_reported


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
    """Serve several products in one `dagster dev`: a code location for each.

    Writes workspace.yaml, and into each PRODUCT_DIR the definitions.py that loads the compiled_artifacts.json there.
    Asset keys that two products build are refused; a dbt source whose meta.dagster.asset_key is another product's
    asset is an edge between them. Parses dbt projects whose manifest is missing or outdated.

    \b
    Example:
      floe-dagster workspace orders returns
      dagster dev --workspace workspace.yaml

    Exits with 0, with 1 when a product cannot be used or keys collide (nothing is written), 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    from floe_orchestrator_dagster.workspace import write_workspace

    with errors_reported():
        written = write_workspace(products, output)
    for location in written.locations:
        click.echo(f"{location.name}: {location.file} ({location.assets} assets)")
    for edge in written.edges:
        click.echo(f"{edge.product} reads {edge.key} of {edge.owner}")
    click.echo(f"\nTo see them in Dagster:\n\n  dagster dev --workspace {output}")
