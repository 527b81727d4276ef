"""``floe-dagster timeline``: show what took the time in a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import (
    artifacts_argument,
    artifacts_path,
    as_json,
    echo_json,
    errors_reported,
    progress,
)
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from floe_orchestrator_dagster.inspect.timeline import TimedNode, Timeline


_SHOWN_WAIT = 0.01  # seconds


@click.command()
@click.argument("run")
@artifacts_argument
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the drawing to this HTML file.")
@as_json
def timeline(run: str, artifacts: Path | None, output: Path | None, *, as_json: bool) -> None:
    """Show what took the time in a run.

    RUN is the id of a run, or its beginning. The command reads the Dagster instance of DAGSTER_HOME, else of a `dagster
    dev` in this directory. It also works for runs on other machines, and while a run is in progress. It prints the
    critical path, a chain of nodes that waited for each other, and the ten slowest nodes beside the median of their
    last ten builds. `--output` draws all nodes. ARTIFACTS is the product's compiled_artifacts.json. The default is
    FLOE_ARTIFACTS_PATH.

    \b
    Example:
      floe-dagster timeline 3f0c9a1e compiled_artifacts.json --output run.html

    Exits with 0 on success, 1 without such a run, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    if output is not None and not output.absolute().parent.is_dir():
        raise click.BadParameter(f"{output.absolute().parent} is not a directory.", param_hint="--output")
    with errors_reported(), progress("Reading the run"):
        found = _read(run, artifacts_path(artifacts))
    if output is not None:
        from floe_orchestrator_dagster.inspect.timeline_page import timeline_page

        try:
            output.write_text(timeline_page(found), encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(f"{output} cannot be written: {error.strerror}.", param_hint="--output") from None
    if as_json:
        echo_json(_as_record(found))
    else:
        _echo(found, output)


def _read(run: str, artifacts: Path) -> Timeline:
    from floe_orchestrator_dagster.errors import InstanceError, Problem
    from floe_orchestrator_dagster.inspect.instance import instance_of_user
    from floe_orchestrator_dagster.inspect.timeline import read_timeline
    from floe_orchestrator_dagster.product import load_product, manifest_as_prepared

    product = load_product(artifacts, manifest_source=manifest_as_prepared)
    parents = product.dbt.manifest.content["parent_map"] if product.dbt else {}
    with instance_of_user() as found:
        if not found.place:
            fix = "Set DAGSTER_HOME to the directory of the instance that has the run, the one with its dagster.yaml."
            raise InstanceError(
                "DAGSTER_HOME", [Problem("", "is not set, and no `dagster dev` runs in this directory", fix)]
            )
        return read_timeline(found.instance, run, parents)


def _as_record(found: Timeline) -> dict[str, object]:
    return {
        "run_id": found.run_id,
        "seconds": found.seconds,
        "at_once": found.at_once,
        "critical": [node.unique_id for node in found.critical],
        "nodes": [_node_as_record(node) for node in found.nodes],
        "slowest": [
            {
                "unique_id": slow.node.unique_id,
                "seconds": slow.node.seconds,
                "median_before": slow.median_before,
                "builds": slow.builds,
            }
            for slow in found.slowest
        ],
    }


def _node_as_record(node: TimedNode) -> dict[str, object]:
    return {
        "unique_id": node.unique_id,
        "status": node.status,
        "asset": node.key.to_user_string() if node.key else None,
        "start": node.start,
        "end": node.end,
        "row": node.lane,
        "waited": node.waited,
    }


def _echo(found: Timeline, output: Path | None) -> None:
    """Print one line per node, unwrapped, so that the output can be searched."""
    nodes = counted(len(found.nodes), "node")
    click.echo(f"{found.run_id}: {nodes} in {found.seconds:.1f} s, at most {found.at_once} at the same time")
    if found.critical:
        click.echo("\nCritical path:")
        for node in found.critical:
            waited = f", waited {node.waited:.2f} s" if node.waited >= _SHOWN_WAIT else ""
            click.echo(f"  {node.seconds:8.2f} s  {node.name}, from {node.start:.2f} s{waited}")
        click.echo("\nSlowest nodes:")
        for slow in found.slowest:
            before = (
                "" if slow.median_before is None else f", median of {slow.builds} before: {slow.median_before:.2f} s"
            )
            click.echo(f"  {slow.node.seconds:8.2f} s  {slow.node.name}{before}")
    if output is not None:
        click.echo(f"\nThe drawing is in {output}.")
