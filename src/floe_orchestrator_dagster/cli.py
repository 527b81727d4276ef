"""The ``floe-dagster`` command, a group of the commands in ``commands``."""

from __future__ import annotations

import logging

import click

from floe_orchestrator_dagster import __version__
from floe_orchestrator_dagster.commands.answers import errors_reported
from floe_orchestrator_dagster.commands.changes import explain
from floe_orchestrator_dagster.commands.check import check
from floe_orchestrator_dagster.commands.ci import ci
from floe_orchestrator_dagster.commands.config_schema import config_schema
from floe_orchestrator_dagster.commands.demo import demo
from floe_orchestrator_dagster.commands.helm import helm
from floe_orchestrator_dagster.commands.init import init
from floe_orchestrator_dagster.commands.lineage import lineage
from floe_orchestrator_dagster.commands.plan import plan
from floe_orchestrator_dagster.commands.prepare import prepare
from floe_orchestrator_dagster.commands.state import state
from floe_orchestrator_dagster.commands.timeline import timeline
from floe_orchestrator_dagster.commands.validate import validate
from floe_orchestrator_dagster.commands.workspace import workspace
from floe_orchestrator_dagster.garbage import collection_paused
from floe_orchestrator_dagster.redaction import redact_urls

# Commands that load a product and then end, and therefore run without garbage collection. Others can run for minutes.
_LOADING = {"explain", "helm", "init", "plan", "prepare", "state", "timeline", "validate", "workspace"}


class _Commands(click.Group):
    """A group whose usage errors mask logins in URLs, such as a URL that was given for another argument."""

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
    epilog='Completion: eval "$(_FLOE_DAGSTER_COMPLETE=bash_source floe-dagster)"',
)
@click.version_option(__version__, prog_name="floe-dagster")
def main() -> None:
    """Run floe data products in Dagster."""
    context = click.get_current_context()
    if context.invoked_subcommand in _LOADING:
        context.with_resource(collection_paused())
    from floe_orchestrator_dagster.logs import log_as_configured
    from floe_orchestrator_dagster.telemetry.export import export_as_configured
    from floe_orchestrator_dagster.upstream.patches import are_on

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    log_as_configured()
    export_as_configured(None)
    with errors_reported():
        are_on()


for _command in (
    check,
    ci,
    config_schema,
    demo,
    explain,
    helm,
    init,
    lineage,
    plan,
    prepare,
    state,
    timeline,
    validate,
    workspace,
):
    main.add_command(_command)
