"""``floe-dagster state``, and the comparison of ``floe-dagster plan --changed --state``."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import (
    artifacts_argument,
    as_json,
    echo_json,
    echo_listed,
    echo_message,
    errors_reported,
    progress,
)
from floe_orchestrator_dagster.commands.findings import echo_findings, examine
from floe_orchestrator_dagster.errors import Problem, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from floe_orchestrator_dagster.inspect.validation import LoadedProduct
    from floe_orchestrator_dagster.state.built import BuiltState
    from floe_orchestrator_dagster.state.changes import StateChanges
    from floe_orchestrator_dagster.state.published import PublishedState

    Command = Callable[..., None]

_SHOWN_TESTS = 5
UNDECIDED = 2
"""Exit code when there is no usable state."""
_URL = "Directory or URL of the states. The default is `state.url` of the configuration."

environment_option = click.option(
    "--environment",
    metavar="NAME",
    help="Environment of the state; default: `state.production`.",
)


def state_option(text: str) -> Callable[[Command], Command]:
    """Return the option ``--state`` with this help."""
    return click.option("--state", metavar="URL", help=text)


def show_changes_since(loaded: LoadedProduct, url: str, environment: str | None, *, as_json: bool) -> None:
    """Print what differs from a published state."""
    with errors_reported(UNDECIDED), progress("Comparing with production"), tempfile.TemporaryDirectory() as scratch:
        from floe_orchestrator_dagster.execution.step.build_facts import built_sources
        from floe_orchestrator_dagster.state.changes import changes_since
        from floe_orchestrator_dagster.state.location import production
        from floe_orchestrator_dagster.state.sets import read_state

        product = loaded.product
        state = read_state(url, product.name, production(product, environment), Path(scratch))
        builds = loaded.location.builds
        disabled = frozenset[str]().union(*(step.nodes.disabled for step in builds))
        found = changes_since(product, state, built_sources(builds), disabled)
    if as_json:
        echo_json({**state_as_json(state), **changes_as_json(found)})
        return
    for note in found.notes:
        echo_message("note", note)
    click.echo(f"{product.name}, compared with {state.environment} of {state.published_at:%Y-%m-%d %H:%M:%S %Z}")
    _echo_group("changed", found.changed)
    _echo_group("downstream", found.downstream)
    _echo_group("removed", dict.fromkeys(found.removed, "production has it, and the project does not"))
    _echo_group("tests to run", found.tests, _SHOWN_TESTS)
    click.echo(f"\nunchanged: {len(found.unchanged)}")


def state_as_json(state: PublishedState) -> dict[str, object]:
    """Return the facts of a state without its fingerprints, as a JSON object."""
    names = ("product", "environment", "run_id", "published_at", "engine", "engine_version", "adapter")
    return {name: getattr(state, name) for name in names}


def changes_as_json(found: StateChanges) -> dict[str, object]:
    """Return changes as a JSON object."""
    return {
        "notes": found.notes,
        **{
            name: [{"node": node, "reason": reason} for node, reason in reasons.items()]
            for name, reasons in (("changed", found.changed), ("downstream", found.downstream), ("tests", found.tests))
        },
        "removed": found.removed,
        "unchanged": found.unchanged,
    }


def _echo_group(title: str, reasons: Mapping[str, str], shown: int | None = None) -> None:
    if not reasons:
        return
    click.echo(f"\n{title}: {len(reasons)}")
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for node, reason in reasons.items():
        groups[reason].append(_short(node))
    for reason, members in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        click.echo(f"  {reason}:")
        more = len(members) - len(sorted(members)[:shown])
        listed = ", ".join(sorted(members)[:shown]) + (f" and {more} more" if more else "")
        echo_listed(listed)


def _short(unique_id: str) -> str:
    parts = unique_id.split(".")
    return parts[2] if parts[0] == "test" else ".".join(parts[2:])


@click.group()
def state() -> None:
    """Publish and show what production has built."""


@state.command()
@artifacts_argument
@state_option(_URL)
@click.option(
    "--run-results",
    type=click.Path(path_type=Path),
    help="Publish what dbt has built, by this run_results.json, instead of what Dagster has built.",
)
def publish(artifacts: Path | None, state: str | None, run_results: Path | None) -> None:
    """Publish what production has built.

    The product's sensor does this after each successful run. The command reads the records in DAGSTER_HOME, or of a
    `dagster dev` in this directory. The environment is the dbt target (FLOE_ENV).

    \b
    Example:
      floe-dagster state publish
      floe-dagster state publish --run-results target/run_results.json --state s3://example-bucket/dbt-state

    Exits with 0 on success, 1 when the product has problems, 2 when nothing can be published, and on wrong usage.
    """  # noqa: D301  # click reads the \b
    findings = examine(artifacts, parses=False)
    if findings.loaded is None:
        echo_findings(findings)
        sys.exit(1)
    product = findings.loaded.product
    with errors_reported(UNDECIDED):
        from floe_orchestrator_dagster.state.built import built_by_dbt, publish_built
        from floe_orchestrator_dagster.state.location import required_url

        url = required_url(product, state)
        built = built_by_dbt(product, run_results) if run_results else _built_by_dagster(findings.loaded)
        published = publish_built(product, built, "", url)
    tables = f"{len(built.results['results'])} tables and views, {len(built.fingerprints)} fingerprints"
    click.echo(f"published {published.name}: {tables}")
    if not published.is_latest:
        click.echo(
            "It is not the latest state: the store has one of later builds. `floe-dagster state show` prints it."
        )


def _built_by_dagster(loaded: LoadedProduct) -> BuiltState:
    from floe_orchestrator_dagster.automation.state_publication import built_state
    from floe_orchestrator_dagster.inspect.instance import instance_of_user

    with instance_of_user() as found:
        key_of = loaded.location.builds[0].key_of if loaded.location.builds else {}
        built = built_state(found.instance, loaded.product, key_of)
    if not built.results["results"]:
        what = "has no recorded build of the product" if found.place else "is not known"
        fix = "Set DAGSTER_HOME to that of production, with `state` in the configuration before its runs."
        raise StateError(f"Dagster instance {found.place}".strip(), [Problem("", what, fix)])
    return built


@state.command()
@artifacts_argument
@state_option(_URL)
@environment_option
@as_json
def show(artifacts: Path | None, state: str | None, environment: str | None, *, as_json: bool) -> None:
    """Show the latest published state.

    \b
    Example:
      floe-dagster state show

    Exits with 0 on success, 1 when the product has problems, 2 without a usable state, and on wrong usage.
    """  # noqa: D301  # click reads the \b
    findings = examine(artifacts, parses=False)
    if findings.loaded is None:
        echo_findings(findings)
        sys.exit(1)
    product = findings.loaded.product
    with errors_reported(UNDECIDED), tempfile.TemporaryDirectory() as scratch:
        from floe_orchestrator_dagster.state.location import production, required_url
        from floe_orchestrator_dagster.state.sets import read_state

        url = required_url(product, state)
        found = read_state(url, product.name, production(product, environment), Path(scratch))
    if as_json:
        echo_json({**state_as_json(found), "fingerprints": found.fingerprints})
        return
    click.echo(f"{found.product}, {found.environment}: published {found.published_at:%Y-%m-%d %H:%M:%S %Z}")
    click.echo(f"run: {found.run_id or 'none, published by a command'}")
    click.echo(f"dbt: {found.engine_version} ({found.adapter})")
    click.echo(f"fingerprints: {len(found.fingerprints)}")
