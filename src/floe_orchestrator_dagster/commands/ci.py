"""``floe-dagster ci``: build what a pull request changes, in separate tables."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import (
    artifacts_argument,
    artifacts_path,
    as_json,
    echo_json,
    errors_reported,
)
from floe_orchestrator_dagster.commands.findings import echo_findings, examine
from floe_orchestrator_dagster.commands.state import UNDECIDED, environment_option, state_option

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from floe_orchestrator_dagster.pull_request.report import BuildReport
    from floe_orchestrator_dagster.pull_request.request import PullRequest

_FAILED = 1
_SIGNALLED = 128


@click.command()
@artifacts_argument
@state_option("Published states; default: `state.url`.")
@click.option("--schema", required=True, metavar="NAME", help="Schema or DuckDB file, such as pr_123.")
@environment_option
@click.option("--keep", is_flag=True, help="Keep the tables.")
@click.option("--clean", is_flag=True, help="Remove the tables of killed and kept builds, and build nothing.")
@click.option("--markdown", is_flag=True, help="Print Markdown for a comment.")
@as_json
def ci(  # noqa: PLR0913  # options
    artifacts: Path | None,
    state: str | None,
    schema: str,
    environment: str | None,
    *,
    keep: bool,
    clean: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Build what a pull request changes, in separate tables.

    dbt reads all other tables from production and writes nothing there. At the end, the tables are removed. The project
    is parsed first. ARTIFACTS is the product's compiled_artifacts.json. The default is FLOE_ARTIFACTS_PATH.

    \b
    Example:
      floe-dagster ci --state s3://example-bucket/dbt-state --schema pr_123

    Exits with 0 on success, 1 when a node or hook failed, 2 when nothing was built.
    """  # noqa: D301  # click reads the \b
    with _signals_as_exit(), errors_reported(UNDECIDED):
        request = _request(artifacts, schema)
        if clean:
            request.clean()
            return
        with redirect_stdout(sys.stderr):
            report = request.build(state, environment, keep=keep)
    _echo_report(report, as_json=as_json, markdown=markdown)
    if not report.succeeded:
        sys.exit(_FAILED)


def _request(artifacts: Path | None, schema: str) -> PullRequest:
    """Parse the project and load the product."""
    from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
    from floe_orchestrator_dagster.pull_request.request import PullRequest

    # A manifest of an earlier commit would hide changes.
    load_product(artifacts_path(artifacts), manifest_source=manifest_rebuilt)
    findings = examine(artifacts, parses=False)
    if findings.loaded is None:
        echo_findings(findings)
        sys.exit(UNDECIDED)
    loaded = findings.loaded
    return PullRequest.of(loaded.product, loaded.location.builds, schema, lambda line: click.echo(line, err=True))


def _echo_report(report: BuildReport, *, as_json: bool, markdown: bool) -> None:
    from floe_orchestrator_dagster.pull_request.report import as_markdown, as_text

    if as_json:
        echo_json(report.as_json())
        return
    if markdown:
        for line in as_markdown(report):
            click.echo(line)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)  # without colors in a pipe
    for line, style in as_text(report):
        console.print(Text(line, style))


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """End this process by an exception after a signal, so that the tables are removed."""
    before = {number: signal.signal(number, _exit) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(_SIGNALLED + number)
