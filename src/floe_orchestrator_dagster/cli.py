"""The ``floe-dagster`` command."""

from __future__ import annotations

import logging
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster import __version__
from floe_orchestrator_dagster.commands.answers import (
    artifacts_argument,
    artifacts_path,
    as_json,
    echo_json,
    errors_reported,
    progress,
)
from floe_orchestrator_dagster.commands.check import check
from floe_orchestrator_dagster.commands.demo import demo
from floe_orchestrator_dagster.commands.deploy import helm, workspace
from floe_orchestrator_dagster.commands.lineage import lineage
from floe_orchestrator_dagster.errors import FloeDagsterError, Problem
from floe_orchestrator_dagster.redaction import redact_urls

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.inspect.validation import Findings, LoadedProduct


class _Commands(click.Group):
    """Commands whose usage errors repeat no login of a URL that was put into the wrong place."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            said = error.format_message()
            shown = redact_urls(said)
            if shown == said:
                raise
            raise click.UsageError(shown, error.ctx) from None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command exits with 0 when all is well, 1 when the product has problems, 2 on wrong usage. "
    'Completion for bash: eval "$(_FLOE_DAGSTER_COMPLETE=bash_source floe-dagster)" (zsh_source, fish_source).',
)
@click.version_option(__version__, prog_name="floe-dagster")
def main() -> None:
    """Run floe data products in Dagster."""
    from floe_orchestrator_dagster.logs import log_as_configured
    from floe_orchestrator_dagster.telemetry.export import export_as_configured

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    log_as_configured()
    export_as_configured(None)


main.add_command(check)
main.add_command(demo)
main.add_command(lineage)
main.add_command(helm)
main.add_command(workspace)


@main.command()
@artifacts_argument
@click.option("--no-deps", is_flag=True, help="Use the dbt packages that are installed; never run `dbt deps`.")
@as_json
def prepare(artifacts: Path | None, *, no_deps: bool, as_json: bool) -> None:
    """Install dbt packages and parse the dbt project with the compiled profile.

    For image builds and CI: afterwards the code location loads without running dbt. ARTIFACTS is the product's
    compiled_artifacts.json; FLOE_ARTIFACTS_PATH when left out. No secrets are needed. Only `dbt deps` connects; it
    does not run when package-lock.yml is up to date and all its packages are installed.

    \b
    Example:
      floe-dagster prepare dbt_project/compiled_artifacts.json

    Exits with 1 when the product or the dbt project has an error, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    with errors_reported(), progress("Parsing the dbt project"):
        from floe_orchestrator_dagster.automation.cron import declared_schedule
        from floe_orchestrator_dagster.product import load_product, manifest_parsed_offline, manifest_rebuilt

        path = artifacts_path(artifacts)
        source = manifest_parsed_offline if no_deps else manifest_rebuilt
        product = load_product(path, manifest_source=source)
        declared_schedule(product)
    if not product.models:
        if as_json:
            echo_json({"product": product.name, "manifest": None, "assets": 0})
        else:
            click.echo(f"{product.name}: declares no transforms, nothing to prepare")
        return
    if product.dbt is None:
        click.echo(f"error: {path}: no dbt project to prepare. Set FLOE_DBT_PROJECT_DIR to it.", err=True)
        sys.exit(1)
    manifest = product.dbt.manifest
    if as_json:
        echo_json({"product": product.name, "manifest": str(manifest.path), "assets": len(manifest.asset_nodes)})
    else:
        click.echo(f"{product.name}: {len(manifest.asset_nodes)} dbt assets in {manifest.path}")


@main.command()
@artifacts_argument
@as_json
def validate(artifacts: Path | None, *, as_json: bool) -> None:
    """Report everything that is wrong with a product, at once.

    Looks at artifacts, configuration, floe.yaml, dbt project, profile, manifest and schedule, then builds what Dagster
    would load. ARTIFACTS is the product's compiled_artifacts.json; FLOE_ARTIFACTS_PATH when left out. Writes nothing
    and runs nothing: the manifest is made by `floe-dagster prepare`, beforehand.

    \b
    Example:
      floe-dagster validate dbt_project/compiled_artifacts.json

    Exits with 0 when the product loads, 1 when it has problems, 2 on wrong usage. Warnings change nothing.
    """  # noqa: D301  # click reads the \b
    findings = _examine(artifacts)
    if as_json:
        echo_json(_findings_as_json(findings))
    else:
        _echo_findings(findings)
    if findings.loaded is None:
        sys.exit(1)
    if not as_json:
        click.echo(_summary(findings.loaded))


@main.command()
@artifacts_argument
@as_json
def plan(artifacts: Path | None, *, as_json: bool) -> None:
    """Show what a product will be in Dagster.

    Assets, checks, jobs, schedules with their next ticks, sensors, automation and pools, and how often a full run
    starts dbt. ARTIFACTS is the product's compiled_artifacts.json; FLOE_ARTIFACTS_PATH when left out. Writes nothing
    and runs nothing: the manifest is made by `floe-dagster prepare`, beforehand.

    \b
    Example:
      floe-dagster plan dbt_project/compiled_artifacts.json

    Exits with 0, with 1 when the product has problems (as `floe-dagster validate` reports them), 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    findings = _examine(artifacts)
    if findings.loaded is None:
        _echo_findings(findings)
        sys.exit(1)
    from floe_orchestrator_dagster.inspect.plan import plan_product
    from floe_orchestrator_dagster.inspect.report import print_plan

    product_plan = plan_product(findings.loaded.product, findings.loaded.definitions)
    if as_json:
        echo_json({**asdict(product_plan), "warnings": _warnings_as_json(findings)})
    else:
        print_plan(product_plan, [str(remark) for remark in findings.warnings])


@main.command("config-schema")
@click.option("--manifest", "for_manifest", is_flag=True, help="Schema of a whole manifest.yaml that holds it.")
def config_schema(*, for_manifest: bool) -> None:
    """Print the JSON schema of plugins.orchestrator.config.

    For editors and CI. With --manifest it is the schema of the platform's manifest.yaml, which an editor can use as it
    is: everything but plugins.orchestrator.config is left open.

    \b
    Example:
      floe-dagster config-schema --manifest > manifest.schema.json
      and as the first line of manifest.yaml:
      # yaml-language-server: $schema=manifest.schema.json

    Exits with 0, or with 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    from floe_orchestrator_dagster.config import config_schema as schema
    from floe_orchestrator_dagster.config import manifest_schema

    echo_json(manifest_schema() if for_manifest else schema())


def _examine(artifacts: Path | None) -> Findings:
    # dbt's node selection writes to standard output, where the answer belongs alone.
    with progress("Loading the product"), redirect_stdout(sys.stderr):
        from floe_orchestrator_dagster.inspect.validation import Findings, examine_product

        try:
            path = artifacts_path(artifacts)
        except FloeDagsterError as error:
            return Findings(errors=(error,))
        return examine_product(path)


def _echo_findings(findings: Findings) -> None:
    for error in findings.errors:
        click.echo(f"error: {error}", err=True)
    for remark in findings.warnings:
        file = f"{remark.file}: " if remark.file else ""
        click.echo(f"warning: {file}{remark}", err=True)
    if findings.errors:
        count = sum(len(_problems(error)) for error in findings.errors)
        click.echo("1 problem" if count == 1 else f"{count} problems", err=True)


def _findings_as_json(findings: Findings) -> dict[str, object]:
    problems = [_as_record(error.origin, problem) for error in findings.errors for problem in _problems(error)]
    return {"valid": findings.loaded is not None, "problems": problems, "warnings": _warnings_as_json(findings)}


def _warnings_as_json(findings: Findings) -> list[dict[str, str]]:
    return [_as_record(remark.file, remark.problem) for remark in findings.warnings]


def _as_record(file: str, problem: Problem) -> dict[str, str]:
    return {"file": file, "where": problem.where, "what": problem.what, "fix": problem.fix}


def _problems(error: FloeDagsterError) -> Sequence[Problem]:
    return error.problems or (Problem("", str(error), ""),)


def _summary(loaded: LoadedProduct) -> str:
    from floe_orchestrator_dagster.inspect.plan import plan_product

    described = plan_product(loaded.product, loaded.definitions)
    counts = [
        _counted(len(described.built), "asset"),
        _counted(described.checks, "check"),
        _counted(len(described.schedules), "schedule"),
    ]
    return f"{loaded.product.name}: valid ({', '.join(counts)})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
