"""``floe-dagster validate``: report every problem of a product."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import artifacts_argument, as_json, echo_json
from floe_orchestrator_dagster.commands.findings import echo_findings, examine, findings_as_json
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.inspect.validation import LoadedProduct


@click.command()
@artifacts_argument
@as_json
def validate(artifacts: Path | None, *, as_json: bool) -> None:
    """Report all problems of a product.

    The command checks artifacts, configuration, floe.yaml, dbt project, profile, manifest and schedule, then builds
    Dagster's definitions. ARTIFACTS is the product's compiled_artifacts.json. The default is FLOE_ARTIFACTS_PATH. The
    command runs dbt only if dbt v2 is the engine: dbt v2 then parses the project. Run `floe-dagster prepare` before it.
    It writes one file, as every load does: floe_manifest.json, a smaller copy of dbt's manifest.json beside it, if that
    is missing or outdated.

    \b
    Example:
      floe-dagster validate dbt_project/compiled_artifacts.json

    Exits with 0 when the product loads, 1 when it has problems, 2 on wrong usage. Warnings do not change the exit code.
    """  # noqa: D301  # click reads the \b
    findings = examine(artifacts, parses=True)
    if as_json:
        echo_json(findings_as_json(findings))
    else:
        echo_findings(findings)
    if findings.loaded is None:
        sys.exit(1)
    if not as_json:
        click.echo(_summary(findings.loaded))


def _summary(loaded: LoadedProduct) -> str:
    from floe_orchestrator_dagster.inspect.plan import plan_product

    described = plan_product(loaded.product, loaded.definitions)
    counts = [
        counted(len(described.built), "asset"),
        counted(described.checks, "check"),
        counted(len(described.schedules), "schedule"),
    ]
    return f"{loaded.product.name}: valid ({', '.join(counts)})"
