"""``floe-dagster config-schema``: print the JSON schema of the configuration."""

from __future__ import annotations

import click

from floe_orchestrator_dagster.commands.answers import echo_json


@click.command("config-schema")
@click.option(
    "--manifest", "for_manifest", is_flag=True, help="Schema of a whole manifest.yaml with this configuration."
)
def config_schema(*, for_manifest: bool) -> None:
    """Print the JSON schema of plugins.orchestrator.config.

    Editors and CI can use it for completion and validation. With --manifest it is the schema of the platform's
    manifest.yaml, which allows anything outside of plugins.orchestrator.config.

    \b
    Example:
      floe-dagster config-schema --manifest > manifest.schema.json
      The first line of manifest.yaml then names the schema:
      # yaml-language-server: $schema=manifest.schema.json

    Exits with 0, or with 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    from floe_orchestrator_dagster.config import config_schema as schema
    from floe_orchestrator_dagster.config import manifest_schema

    echo_json(manifest_schema() if for_manifest else schema())
