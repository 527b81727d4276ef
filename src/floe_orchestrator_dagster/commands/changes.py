"""Decisions of ``build: changed`` before a run: ``floe-dagster plan --changed`` and ``floe-dagster explain``."""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict
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
from floe_orchestrator_dagster.wording import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.inspect.changes import ChangePlan, Explanation
    from floe_orchestrator_dagster.inspect.validation import LoadedProduct

_SHOWN_CHECKS = 5


@click.command()
@click.argument("model")
@artifacts_argument
@as_json
def explain(model: str, artifacts: Path | None, *, as_json: bool) -> None:
    """Explain why a run with `build: changed` would build or reuse MODEL now.

    MODEL is the name, asset key or unique id of a model, seed or snapshot. ARTIFACTS is the product's
    compiled_artifacts.json. The default is FLOE_ARTIFACTS_PATH. The decision is that of `floe-dagster plan --changed`.

    \b
    Example:
      floe-dagster explain fct_orders dbt_project/compiled_artifacts.json

    Exits with 0 on success, 1 when the product has problems (see `floe-dagster validate`), 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    findings = examine(artifacts, parses=False)
    if findings.loaded is None:
        echo_findings(findings)
        sys.exit(1)
    with errors_reported(), _decided(findings.loaded) as (plan, place, notes):
        from floe_orchestrator_dagster.inspect.changes import explain as explain_node

        explanation = explain_node(plan, _node(plan, model))
    if as_json:
        echo_json({"instance": place or None, "notes": notes, **_explanation_as_json(explanation)})
    else:
        _echo_notes(notes)
        _echo_explanation(explanation)


def show_changes(loaded: LoadedProduct, *, as_json: bool) -> None:
    """Print which assets and checks a run would build and evaluate, and why."""
    with errors_reported(), _decided(loaded) as (plan, place, notes):
        pass
    if as_json:
        decided = {"assets": [asdict(asset) for asset in plan.assets], "checks": [asdict(one) for one in plan.checks]}
        echo_json({"product": loaded.product.name, "instance": place or None, "notes": notes, **decided})
        return
    click.echo(f"{loaded.product.name}: a run with `build: changed` would now")
    _echo_notes(notes)
    names = _names_of(plan)
    _echo_group("build", "asset", {asset.node: asset.reason for asset in plan.assets if asset.is_built}, names)
    _echo_group("reuse", "asset", {asset.node: asset.reason for asset in plan.assets if not asset.is_built}, names)
    _echo_group("run", "check", {check.node: check.reason for check in plan.checks if check.is_run}, names)
    _echo_group("keep the results of", "check", {one.node: one.reason for one in plan.checks if not one.is_run}, names)


@contextmanager
def _decided(loaded: LoadedProduct) -> Iterator[tuple[ChangePlan, str, list[str]]]:
    """Give the plan, the directory of the instance, and notes about both."""
    with progress("Comparing with the last builds"):
        from floe_orchestrator_dagster.inspect.changes import plan_changes
        from floe_orchestrator_dagster.inspect.instance import instance_of_user

        with instance_of_user() as found:
            plan = plan_changes(found.instance, loaded.location.builds)
    yield plan, found.place, list(_notes(loaded, plan, found.place))


def _notes(loaded: LoadedProduct, plan: ChangePlan, place: str) -> Iterator[str]:
    if loaded.product.dbt is None:
        yield "The product has no dbt project here. Set FLOE_DBT_PROJECT_DIR to it."
        return
    if not place:
        yield (
            "No Dagster instance is known, so everything is built: DAGSTER_HOME is not set, and no `dagster dev` runs "
            "in this directory. Set DAGSTER_HOME to the directory of the instance."
        )
    elif not any(found.history.materializations for _, found in plan.decisions):
        yield f"The instance in {place} has no run that built this product, so everything is built."
    if not loaded.product.config.builds_changed:
        yield (
            "Runs record no builds for later ones: `build: changed` is not in the configuration. Set `build: changed` "
            "there, or for a job or schedule."
        )


def _node(plan: ChangePlan, name: str) -> str:
    """Return the unique id of the node with a name, asset key or unique id.

    Raises:
        BadParameter: The product has no such node, or several.
    """
    names: defaultdict[str, set[str]] = defaultdict(set)
    for asset in plan.assets:
        for known in (asset.node, asset.asset, asset.node.split(".")[2], ".".join(asset.node.split(".")[2:])):
            names[known].add(asset.node)
    found = sorted(names.get(name, ()))
    if not found:
        what = f"{name!r} is not a model, seed or snapshot of the product. {did_you_mean(closest(name, names))}"
        raise click.BadParameter(what.strip(), param_hint="MODEL")
    if len(found) > 1:
        raise click.BadParameter(f"{name!r} names several nodes. Use one of {', '.join(found)}.", param_hint="MODEL")
    return found[0]


def _names_of(plan: ChangePlan) -> dict[str, str]:
    checks = {check.node: f"{check.check} ({check.asset})" for check in plan.checks}
    return {asset.node: asset.asset for asset in plan.assets} | checks


def _echo_notes(notes: Iterable[str]) -> None:
    for note in notes:
        echo_message("note", note)


def _echo_group(doing: str, kind: str, reasons: Mapping[str, str], names: Mapping[str, str]) -> None:
    if not reasons:
        return
    click.echo(f"\n{doing} {len(reasons)} {kind}{'s' if len(reasons) > 1 else ''}")
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for node, reason in reasons.items():
        groups[reason].append(names[node])
    for reason, members in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        click.echo(f"  because {reason}:")
        shown = sorted(members)[: _SHOWN_CHECKS if kind == "check" else None]
        more = len(members) - len(shown)
        listed = ", ".join(shown) + (f" and {more} more" if more else "")
        echo_listed(listed)


def _echo_explanation(explanation: Explanation) -> None:
    asset = explanation.asset
    click.echo(f"{asset.asset}: {'built' if asset.is_built else 'reused'}, because {asset.reason}")
    for cause in explanation.causes:
        click.echo(f"  {cause.asset}: built, because {cause.reason}")
    if explanation.built_at:
        click.echo(f"last build: {explanation.built_at:%Y-%m-%d %H:%M:%S %Z} in run {explanation.built_in_run}")
    _echo_pairs("reads", explanation.inputs)
    checks = [(one.check, f"{'runs' if one.is_run else 'kept'}, because {one.reason}") for one in explanation.checks]
    _echo_pairs("checks", checks)


def _echo_pairs(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    if pairs:
        click.echo(title)
        for name, text in pairs:
            click.echo(f"  {name}: {text}")


def _explanation_as_json(explanation: Explanation) -> dict[str, object]:
    return {
        **asdict(explanation.asset),
        "causes": [asdict(cause) for cause in explanation.causes],
        "inputs": [{"name": name, "state": state} for name, state in explanation.inputs],
        "checks": [asdict(check) for check in explanation.checks],
        "built_at": explanation.built_at,
        "built_in_run": explanation.built_in_run,
    }
