"""``floe-dagster plan``: show a product's definitions in Dagster."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import artifacts_argument, as_json, echo_json
from floe_orchestrator_dagster.commands.changes import show_changes
from floe_orchestrator_dagster.commands.findings import echo_findings, examine, warnings_as_json
from floe_orchestrator_dagster.commands.state import environment_option, show_changes_since, state_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@artifacts_argument
@click.option("--changed", is_flag=True, help="Show what a run with `build: changed` would build.")
@state_option("Compare with the state that production published.")
@environment_option
@as_json
def plan(artifacts: Path | None, *, changed: bool, state: str | None, environment: str | None, as_json: bool) -> None:
    """Show a product's definitions in Dagster.

    These are assets, checks, jobs, schedules, sensors, automation, pools and dbt invocations of a full run. ARTIFACTS
    is the product's compiled_artifacts.json. The default is FLOE_ARTIFACTS_PATH. Run `floe-dagster prepare` before it.
    It writes one file, as every load does: floe_manifest.json beside dbt's manifest.json.

    --changed reads DAGSTER_HOME or the `dagster dev` here, unless --state is set.

    \b
    Example:
      floe-dagster plan --changed dbt_project/compiled_artifacts.json

    Exits with 0 on success, 1 when the product has problems (see `floe-dagster validate`), 2 on wrong usage or when
    the state is missing.
    """  # noqa: D301  # click reads the \b
    if (state is not None or environment is not None) and not changed:
        raise click.UsageError("--state and --environment need --changed.")
    findings = examine(artifacts, parses=False)
    if findings.loaded is None:
        echo_findings(findings)
        sys.exit(1)
    if changed and state is not None:
        show_changes_since(findings.loaded, state, environment, as_json=as_json)
        return
    if changed:
        show_changes(findings.loaded, as_json=as_json)
        return
    from floe_orchestrator_dagster.inspect.plan import plan_product
    from floe_orchestrator_dagster.inspect.report import print_plan

    product_plan = plan_product(findings.loaded.product, findings.loaded.definitions)
    if as_json:
        echo_json({**asdict(product_plan), "warnings": warnings_as_json(findings)})
    else:
        print_plan(product_plan, [str(remark) for remark in findings.warnings])
