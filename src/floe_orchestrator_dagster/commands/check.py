"""``floe-dagster check``: query the state of a Dagster webserver and of this package's patches."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import as_json, echo_json, echo_message, errors_reported, progress

if TYPE_CHECKING:
    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.connection import Connection
    from floe_orchestrator_dagster.upstream.patches import Patch, State


@click.command()
@click.argument("url", required=False)
@click.option(
    "--artifacts", type=click.Path(path_type=Path), help="Product whose settings to use.  [FLOE_ARTIFACTS_PATH]"
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=10.0,
    show_default=True,
    help="Maximum seconds to wait for the server.",
)
@click.option("--engine", is_flag=True, help="Check the dbt engine instead: build two models with it.")
@as_json
def check(url: str | None, artifacts: Path | None, timeout: float, *, engine: bool, as_json: bool) -> None:
    """Check that a Dagster webserver responds, and report its state.

    URL is the webserver's address. The default is webserver_url of the product, DAGSTER_URL or http://localhost:3000.
    Stopped daemons and code locations that do not load are warnings. The command also lists this package's patches of
    dagster, dagster-dbt and dbt: which are active in this environment, and which gave up.

    \b
    Example:
      floe-dagster check https://dagster.example.com --timeout 5
      floe-dagster check --engine

    Exits with 0 when Dagster responds or the engine works, 1 when not, 2 on wrong usage. Warnings do not count.
    """  # noqa: D301  # click reads the \b
    from floe_orchestrator_dagster.connection import check as check_connection

    if url is not None and _is_path(url):
        what = f"{url!r} is a path, not the address of a webserver."
        raise click.BadParameter(f"{what} To check a product, run `floe-dagster validate {url}`.", param_hint="URL")
    with errors_reported():
        config = _config(artifacts)
    if engine:
        _check_engine(config, as_json=as_json)
        return
    try:
        with progress("Asking the webserver"):
            found = check_connection(url, timeout, config)
    except ValueError as error:  # click lets NaN through any range
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    if not as_json:
        _echo(found)
    with errors_reported(), progress("Checking the patches"):
        states = _patch_states()
    if as_json:
        echo_json({**_as_json(found), "patches": [{**asdict(patch), **asdict(state)} for patch, state in states]})
    else:
        _echo_patches(states)
    if found.webserver is None:
        sys.exit(1)


def _is_path(url: str) -> bool:
    return "://" not in url and (url.endswith(".json") or (os.sep in url and Path(url).exists()))


def _check_engine(config: DagsterConfig | None, *, as_json: bool) -> None:
    from floe_orchestrator_dagster.product.computes import engine_choice
    from floe_orchestrator_dagster.product.engines import EngineChoice

    with errors_reported(), progress("Building two models"):
        from floe_orchestrator_dagster.inspect.engine_check import check_engine

        found = check_engine(engine_choice(config, "") if config else EngineChoice())
    success = not found.differences
    if as_json:
        echo_json({"engine": found.engine, "success": success, "differences": [*found.differences]})
    elif success:
        click.echo(f"{found.engine}: two models and three tests have the expected result")
    else:
        for difference in found.differences:
            echo_message("error", f"{found.engine}: {difference}")
    if not success:
        sys.exit(1)


def _config(artifacts: Path | None) -> DagsterConfig | None:
    """Read the settings of the product on the command line or in the environment; None without a product."""
    from floe_orchestrator_dagster.config import read_config
    from floe_orchestrator_dagster.product import ARTIFACTS_PATH_VARIABLE, artifacts_path_from_environment
    from floe_orchestrator_dagster.product.artifacts import read_artifacts_file, validate_artifacts

    if artifacts is None and not os.environ.get(ARTIFACTS_PATH_VARIABLE):
        return None
    path = artifacts.absolute() if artifacts else artifacts_path_from_environment()
    contract = validate_artifacts(read_artifacts_file(path), str(path))
    orchestrator = contract.plugins.orchestrator if contract.plugins else None
    return read_config(orchestrator.config if orchestrator else None, str(path))


def _echo(found: Connection) -> None:
    for warning in found.warnings:
        echo_message("warning", warning)
    if found.webserver is None:
        echo_message("error", f"{found.error}")
    else:
        click.echo(found.message)


def _patch_states() -> list[tuple[Patch, State]]:
    """Try each patch in this process, and return its state. The process has not imported the patched packages yet."""
    from floe_orchestrator_dagster.upstream import patches

    return [(patch, patches.attempt(patch)) for patch in patches.PATCHES]


def _echo_patches(states: list[tuple[Patch, State]]) -> None:
    from floe_orchestrator_dagster.upstream.patches import SWITCH

    click.echo(f"Patches of dagster, dagster-dbt and dbt ({SWITCH}=off uses none):")
    for patch, state in states:
        reason = f" ({state.reason}; {patch.without})" if state.reason else ""
        click.echo(f"  {patch.name}: {state.status}{reason}")


def _as_json(found: Connection) -> dict[str, object]:
    webserver = asdict(found.webserver) if found.webserver else {"version": None, "locations": None, "daemons": None}
    return {
        "success": found.webserver is not None,
        "url": found.url,
        **webserver,
        "error": found.error or None,
        "warnings": list(found.warnings),
    }
