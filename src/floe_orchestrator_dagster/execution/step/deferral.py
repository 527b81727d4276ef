"""Deferral: tables that dbt reads from the state of another environment instead of this one.

See https://docs.getdbt.com/reference/node-selection/defer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.execution.step.run_options import PREFIXES, chosen_variable
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE
from floe_orchestrator_dagster.state.location import configured_url, production
from floe_orchestrator_dagster.state.sets import read_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.step.run_options import DbtOptions
    from floe_orchestrator_dagster.product import DbtConnection, Product

_SCHEME = "://"


@dataclass(frozen=True)
class Deferral:
    """The deferral of a step.

    Attributes:
        manifest: The state's manifest; None if the run does not set ``defer``.
        further: dbt's other arguments.
    """

    manifest: Mapping[str, Any] | None
    further: tuple[str, ...]

    @property
    def nodes(self) -> frozenset[str]:
        """Unique ids of the nodes that dbt can read from the state."""
        return frozenset((self.manifest or {}).get("nodes") or ())

    def arguments(self, target: Path, built: AbstractSet[str]) -> list[str]:
        """Write the state for dbt, and return dbt's arguments.

        dbt gets a copy of the state's manifest, because the step's own ``--state`` selects nodes, and dbt-core cannot
        read the run results of dbt v2 beside it.

        The copy does not have the tables that the run has built before this step. With ``--favor-state``, dbt reads
        from the state all tables that it does not build itself.

        Args:
            target: Directory for dbt's artifacts.
            built: Unique ids of the tables that the run has built before.
        """
        if self.manifest is None:
            return [*self.further]
        nodes = {unique_id: node for unique_id, node in self.manifest["nodes"].items() if unique_id not in built}
        copy = target / "state"
        copy.mkdir(parents=True, exist_ok=True)
        (copy / MANIFEST_FILE).write_bytes(orjson.dumps({**self.manifest, "nodes": nodes}))
        return ["--defer", "--defer-state", str(copy), *self.further]


def step_deferral(options: DbtOptions, product: Product, dbt: DbtConnection) -> Deferral:
    """Return the deferral that a run's options ask for.

    Args:
        options: The options of the run, completed with those of its job or schedule.
        product: The product. Its published states are the default.
        dbt: The dbt project, which relative states are in, and its profile.

    Raises:
        DbtSetupError: The state is missing or has no valid manifest, or options are only used with ``defer``.
        StateError: A published state is missing or damaged, or its store cannot be reached.
    """
    if options.defer is None and (options.state or options.favor_state):
        name = "state" if options.state else "favor_state"
        raise DbtSetupError(f"run configuration, {name}: it is only used with defer. Set `defer: true`.")
    if options.defer is False:
        return Deferral(None, ("--no-defer",))
    if options.defer is None:
        named = _named_state()
        if not (named and chosen_variable(os.environ, "DEFER") and chosen_variable(os.environ, "FAVOR_STATE")):
            return Deferral(None, _of_environment())
        # dbt would also read tables from the state that the run has built in an earlier step.
        return Deferral(_manifest(_manifest_path(named, dbt.directory.path)), ("--favor-state",))
    state = options.state or default_state(product)
    if state is None:
        fix = "Set `state` to a directory, or configure `state.url`."
        raise DbtSetupError(f"run configuration, defer: no state is known to defer to. {fix}")
    return Deferral(_state_manifest(state, product, dbt), ("--favor-state",) if options.favor_state else ())


def default_state(product: Product) -> str | None:
    """Return the state of runs that name none: that of dbt's environment variables, or the product's published one."""
    return _named_state() or configured_url(product)


def unusable_state(state: str, product: Product, project: Path) -> tuple[str, str] | None:
    """Return why dbt cannot defer to a state, and the fix; None if it can. Published states are not read.

    Args:
        state: The state's directory, or a URL of published states.
        product: The product.
        project: Directory of the dbt project. A relative state is in it.
    """
    if _is_published(state, product):
        return None
    manifest = _manifest_path(state, project)
    if manifest.is_file():
        return None
    fault = f"has no {MANIFEST_FILE}" if manifest.parent.is_dir() else "is not a directory"
    return f"{str(manifest.parent)!r} {fault}", f"Copy the {MANIFEST_FILE} of the other environment into it."


def _state_manifest(state: str, product: Product, dbt: DbtConnection) -> Mapping[str, Any]:
    if _is_published(state, product):
        with TemporaryDirectory(prefix="floe-state-") as scratch:
            read_state(state, product.name, production(product), Path(scratch))
            return _manifest(Path(scratch) / MANIFEST_FILE)
    problem = unusable_state(state, product, dbt.directory.path)
    if problem is not None:
        raise DbtSetupError(f"run configuration, state: {problem[0]}. {problem[1]}")
    return _manifest(_manifest_path(state, dbt.directory.path))


def _manifest_path(state: str, project: Path) -> Path:
    return project / Path(state).expanduser() / MANIFEST_FILE


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise _unreadable(path, f"cannot be read: {what}") from None
    if not isinstance(content, dict) or not isinstance(content.get("nodes"), dict):
        raise _unreadable(path, "is not a manifest of dbt")
    return content


def _unreadable(path: Path, what: str) -> DbtSetupError:
    return DbtSetupError(
        f"run configuration, state: {str(path)!r} {what}. Copy the {MANIFEST_FILE} of the other environment again."
    )


def _is_published(state: str, product: Product) -> bool:
    return _SCHEME in state or state == configured_url(product)


def _named_state() -> str | None:
    """Return the state that dbt's environment variables name."""
    names = (f"{prefix}{name}" for name in ("DEFER_STATE", "STATE") for prefix in PREFIXES)
    return next((found for name in names if (found := os.environ.get(name))), None)


def _of_environment() -> tuple[str, ...]:
    """Return ``--defer-state`` with the environment's ``DBT_STATE``.

    A step can pass ``--state`` to select nodes. That would override ``DBT_STATE`` for deferral, too.
    """
    named = (os.environ.get(f"{prefix}DEFER_STATE") for prefix in PREFIXES)
    state = next((found for prefix in PREFIXES if (found := os.environ.get(f"{prefix}STATE"))), None)
    return ("--defer-state", state) if state and not any(named) else ()
