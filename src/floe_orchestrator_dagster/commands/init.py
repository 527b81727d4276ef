"""``floe-dagster init``: create a data product from a dbt project."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import (
    as_json,
    echo_dagster_commands,
    echo_json,
    echo_message,
    errors_reported,
    progress,
)
from floe_orchestrator_dagster.commands.findings import echo_findings, warnings_as_json
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from floe_orchestrator_dagster.initial_product import InitialOptions, InitialProduct


@click.command()
@click.argument("directory", required=False, default=".", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the product. Default: that of the dbt project, with hyphens.")
@click.option("--schedule", metavar="CRON", help="Schedule of the product, such as '0 6 * * *'. Default: none.")
@click.option("--timezone", default="UTC", show_default=True, help="Timezone of the schedule.")
@click.option("--key-prefix", metavar="PREFIX", help="Prefix of every asset key. Separate its parts with `/`.")
@click.option("--compute", help="floe's compute, such as duckdb, instead of the dbt profile's adapter.")
@click.option("--target", help="Output of the dbt profile. Default: the profile's target.")
@click.option("--profiles-dir", type=click.Path(path_type=Path, file_okay=False), help="Directory of profiles.yml.")
@click.option("--overwrite", is_flag=True, help="Replace an existing floe.yaml and manifest.yaml.")
@click.option("--no-deps", is_flag=True, help="Use the dbt packages that are installed; never run `dbt deps`.")
@click.option("--yes", "-y", "without_questions", is_flag=True, help="Ask no questions.")
@as_json
def init(  # noqa: PLR0913  # one parameter per option
    directory: Path,
    *,
    name: str | None,
    schedule: str | None,
    timezone: str,
    key_prefix: str | None,
    compute: str | None,
    target: str | None,
    profiles_dir: Path | None,
    overwrite: bool,
    no_deps: bool,
    without_questions: bool,
    as_json: bool,
) -> None:
    """Create a data product from the dbt project in DIRECTORY (default: this directory), ready for Dagster.

    The command writes floe.yaml with the models of the project, and manifest.yaml with the connection of the dbt
    profile. Then it compiles and validates the product. On a terminal, it asks for the name and the schedule. An
    existing floe.yaml is not overwritten without confirmation. An existing manifest.yaml is kept, too.

    \b
    Example:
      floe-dagster init --yes

    Exits with 0 on success, 1 when the project cannot become a product, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    with errors_reported():
        from floe_orchestrator_dagster.initial_product import InitialOptions, write_initial_product

        options = InitialOptions(
            name=name,
            compute=compute,
            target=target,
            profiles_dir=profiles_dir,
            schedule=schedule,
            timezone=timezone,
            key_prefix=tuple(part for part in (key_prefix or "").split("/") if part),
            overwrite=overwrite,
            no_deps=no_deps,
        )
        if not without_questions and not as_json and sys.stdin.isatty():
            options = _prompted(directory, options)
        with progress("Parsing the dbt project"):
            written = write_initial_product(directory, options)
    if as_json:
        echo_json(_as_record(written))
    else:
        _print(written)
    if written.findings.loaded is None:
        sys.exit(1)


def _prompted(directory: Path, options: InitialOptions) -> InitialOptions:
    """Prompt for what no option gives."""
    from floe_orchestrator_dagster.initial_product import existing_files, suggested_name

    suggestion = suggested_name(directory.absolute())
    existing = existing_files(directory)
    overwrite = options.overwrite
    if existing and not overwrite:
        overwrite = click.confirm(f"{existing[0]} exists. Overwrite it, and manifest.yaml?", default=False)
        if not overwrite:
            return options
    name = options.name or click.prompt("Name of the product", default=suggestion)
    schedule = options.schedule or click.prompt(
        "Schedule (cron, such as `0 6 * * *`; empty for none)", default="", show_default=False
    )
    return replace(options, name=name, schedule=schedule or None, overwrite=overwrite)


def _print(written: InitialProduct) -> None:
    for file in written.files:
        click.echo(f"wrote {file}")
    for note in written.notes:
        echo_message("note", note)
    echo_findings(written.findings)
    loaded = written.findings.loaded
    if loaded is None:
        return
    from floe_orchestrator_dagster.inspect.plan import plan_product

    described = plan_product(loaded.product, loaded.definitions)
    click.echo(
        f"{written.name}: {counted(written.models, 'model')} in floe.yaml, "
        f"{counted(len(described.built), 'asset')} and {counted(described.checks, 'check')} in Dagster"
    )
    echo_dagster_commands([_command(written)])


def _command(written: InitialProduct) -> str:
    is_here = written.directory == Path.cwd()
    return written.command if is_here else f"cd {shlex.quote(str(written.directory))} && {written.command}"


def _as_record(written: InitialProduct) -> dict[str, object]:
    return {
        "product": written.name,
        "files": [str(file) for file in written.files],
        "models": written.models,
        "notes": list(written.notes),
        "warnings": warnings_as_json(written.findings),
        "command": _command(written),
    }
