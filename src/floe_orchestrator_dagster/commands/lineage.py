"""``floe-dagster lineage``: show and send the lineage events that the backend has not accepted yet."""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import (
    artifacts_argument,
    artifacts_path,
    as_json,
    echo_json,
    echo_message,
    errors_reported,
    progress,
)
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import LineageError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.config.models import LineageConfig
    from floe_orchestrator_dagster.lineage.delivery.backends import Backend
    from floe_orchestrator_dagster.lineage.delivery.replay import SpoolStatus

_DEFAULT_SECONDS = 60.0
_REFUSALS_SHOWN = 5


@click.group()
def lineage() -> None:
    """Show and send undelivered lineage events."""


@lineage.command()
@artifacts_argument
@click.option(
    "--seconds", default=_DEFAULT_SECONDS, show_default=True, type=click.FloatRange(min=0.1), help="Maximum duration."
)
@click.option("--refused", is_flag=True, help="Also send events that the backend has refused before.")
@as_json
def replay(artifacts: Path | None, *, seconds: float, refused: bool, as_json: bool) -> None:
    """Send the lineage events that earlier runs could not deliver.

    The oldest events are sent first, until none are left or the backend does not respond. Running processes send
    their own events. ARTIFACTS is the product's compiled_artifacts.json. The default is FLOE_ARTIFACTS_PATH.

    \b
    Example:
      floe-dagster lineage replay dbt_project/compiled_artifacts.json

    Exits with 0 when no events are left, 1 when events still wait or were refused, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    with errors_reported(), progress("Sending lineage events"):
        from floe_orchestrator_dagster.lineage.delivery.replay import replay as replay_spool
        from floe_orchestrator_dagster.lineage.delivery.replay import retry_refused, spool_status

        product = _read(artifacts)
        backend = _backend(product)
        with _spool_errors(product.spool):
            if refused:
                retry_refused(product.spool)
            done = replay_spool(product.spool, backend, request_seconds=product.config.timeout_seconds, seconds=seconds)
            left = spool_status(product.spool)
    if as_json:
        echo_json({"backend": backend.shown, "directory": str(product.spool), **asdict(done)})
    else:
        click.echo(f"{done.sent} sent to {backend.shown}, {done.refused} refused, {done.waiting} waiting")
        if done.reason:
            echo_message("warning", f"{backend.shown}: {done.reason}")
        # The reason of events that were refused again is printed above.
        _warn_of_refused(len(left.refused) - (done.refused if refused else 0), were_sent=refused)
    sys.exit(1 if done.waiting or left.refused else 0)


@lineage.command()
@artifacts_argument
@as_json
def status(artifacts: Path | None, *, as_json: bool) -> None:
    """Show how many lineage events wait for the backend, and which it refused.

    It sends nothing. ARTIFACTS is the product's compiled_artifacts.json. The default is FLOE_ARTIFACTS_PATH.

    \b
    Example:
      floe-dagster lineage status dbt_project/compiled_artifacts.json

    Exits with 0 when no events wait, 1 when events of ended processes wait or were refused, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    with errors_reported(), progress("Counting lineage events"):
        from floe_orchestrator_dagster.lineage.delivery.replay import spool_status

        product = _read(artifacts)
        with _spool_errors(product.spool):
            found = spool_status(product.spool)
    if as_json:
        echo_json(asdict(found))
    else:
        off = _reason_off(product)
        if off is not None:
            echo_message("note", f"{off.fault}. {off.fix}")
        _echo_status(found, product.config.spool_max_mb)
    sys.exit(1 if found.waiting or found.refused else 0)


@dataclass(frozen=True)
class _LineageOfProduct:
    """A product's artifacts, its lineage settings and its spool directory."""

    artifacts: CompiledArtifacts
    config: LineageConfig
    spool: Path


def _read(named: Path | None) -> _LineageOfProduct:
    from floe_orchestrator_dagster.lineage.delivery.emitter import spool_directory
    from floe_orchestrator_dagster.product import orchestrator_config
    from floe_orchestrator_dagster.product.artifacts import read_artifacts_file, validate_artifacts

    path = artifacts_path(named)
    artifacts = validate_artifacts(read_artifacts_file(path), str(path))
    config = orchestrator_config(artifacts, str(path)).lineage
    return _LineageOfProduct(artifacts, config, spool_directory(artifacts.metadata.product_name, config))


def _backend(product: _LineageOfProduct) -> Backend:
    from floe_orchestrator_dagster.lineage.delivery.backends import find_backend

    # floe-core logs to standard output when it loads a plugin. Standard output is for the command's result only.
    with redirect_stdout(sys.stderr):
        backend = find_backend(product.artifacts) if product.config.enabled else None
    if backend is None:
        raise LineageError(product.artifacts.metadata.product_name, [_why_none(product)])
    return backend


def _why_none(product: _LineageOfProduct) -> Problem:
    """Return the setting that disables lineage, or the problem that no backend is configured."""
    fix = "Set plugins.lineage_backend in manifest.yaml, or OPENLINEAGE_URL where this command runs."
    return _reason_off(product) or Problem("", "no lineage backend is configured", fix)


def _reason_off(product: _LineageOfProduct) -> Problem | None:
    """Return the setting that disables lineage; None without one."""
    from floe_orchestrator_dagster.lineage.delivery.backends import is_disabled

    compile_again = "and compile the product again (floe platform compile)."
    if not product.config.enabled:
        return Problem(
            config_path("lineage", "enabled"), "false: no lineage is sent", f"Set it to true {compile_again}"
        )
    if not product.artifacts.observability.lineage:
        fix = f"Set observability.lineage.enabled to true in manifest.yaml {compile_again}"
        return Problem("observability.lineage", "false: the product sends no lineage", fix)
    if is_disabled():
        return Problem("OPENLINEAGE_DISABLED", "true: no lineage is sent", "Unset it where this command runs.")
    return None


@contextmanager
def _spool_errors(directory: Path) -> Iterator[None]:
    """Report an unreadable spool as an error with its fix."""
    try:
        yield
    except OSError as error:
        what = f"the spool cannot be read or written ({error.strerror or error})"
        fix = "Run this as the user that runs Dagster, or correct the owner of the directory."
        raise LineageError(str(directory), [Problem("", what, fix)]) from None


def _warn_of_refused(number: int, *, were_sent: bool) -> None:
    """Print a warning about refused events; ``were_sent`` is true if this command tried to send them again."""
    if number <= 0:
        return
    count = "1 event is" if number == 1 else f"{number} events are"
    hint = "Run `floe-dagster lineage replay --refused` to send them again."
    if were_sent:
        hint = "They are not complete events, or a running process uses their file. Delete the file to drop them."
    echo_message("warning", f"{count} refused. `floe-dagster lineage status` shows the reason. {hint}")


def _echo_status(found: SpoolStatus, most: int) -> None:
    since = f" since {found.oldest}" if found.oldest else ""
    click.echo(f"{found.directory}: {found.size_bytes / 1e6:.1f} of {most} MB")
    click.echo(f"  waiting      {found.waiting}{since}")
    click.echo(f"  in progress  {found.in_progress}")
    click.echo(f"  refused      {len(found.refused)}")
    for refusal in found.refused[-_REFUSALS_SHOWN:]:
        click.echo(f"    {refusal.refused_at}  {refusal.reason}\n      in {refusal.file}")
    if found.waiting:
        click.echo("Send them with `floe-dagster lineage replay`.")
    if found.refused:
        click.echo(
            "Send refused events again with `floe-dagster lineage replay --refused`, or delete their file to drop them."
        )
