"""``floe-dagster demo``: write a sample data product."""

from __future__ import annotations

import shlex
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import click

from floe_orchestrator_dagster.commands.answers import (
    as_json,
    echo_dagster_commands,
    echo_json,
    echo_message,
    errors_reported,
    progress,
)
from floe_orchestrator_dagster.errors import EngineError

# Packages that the sample needs to run: name on PyPI → module to import. dbt v2 needs no adapter.
_WEBSERVER = {"dagster-webserver": "dagster_webserver"}
_ADAPTER = {"dbt-duckdb": "dbt.adapters.duckdb"}


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@as_json
def demo(directory: Path, *, as_json: bool) -> None:
    """Write a sample data product to DIRECTORY and print the commands that run it.

    The sample has the orders of a small chain of shops on DuckDB: dbt project, floe.yaml, manifest.yaml and compiled
    artifacts. DIRECTORY must be new or empty.

    \b
    Example:
      floe-dagster demo retail-orders

    Exits with 0 on success, 1 when DIRECTORY is not empty or cannot be written, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    with errors_reported(), progress("Writing the sample product"):
        from floe_orchestrator_dagster.demo import write_demo
        from floe_orchestrator_dagster.product import ARTIFACTS_PATH_VARIABLE
        from floe_orchestrator_dagster.product.engines import EngineChoice, find_engine

        engine = None
        with suppress(EngineError):
            engine = find_engine(EngineChoice())
        artifacts = write_demo(directory, engine)
    lines = [
        f"export {ARTIFACTS_PATH_VARIABLE}={shlex.quote(str(artifacts))}",
        "dagster dev -m floe_orchestrator_dagster.definitions",
    ]
    needs = _WEBSERVER if engine and engine.kind == "v2" else {**_WEBSERVER, **_ADAPTER}
    lacking = [package for package, module in needs.items() if not _is_installed(module)]
    if as_json:
        written = {"product": "retail-orders", "directory": str(artifacts.parent), "artifacts": str(artifacts)}
        echo_json({**written, "commands": lines, "missing_packages": lacking})
        return
    if lacking:
        install = f"pip install {' '.join(lacking)}"
        echo_message("warning", f"packages that the sample needs are not installed. Run `{install}`.")
    click.echo(f"The sample product retail-orders is in {artifacts.parent}.")
    echo_dagster_commands(lines)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False
