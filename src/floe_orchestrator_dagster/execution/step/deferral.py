"""State of another environment, from which dbt reads the tables that a run does not build.

dbt gets a copy of the state's manifest. The step's own ``--state`` selects nodes, and dbt-core cannot read the run
results of dbt v2 beside the manifest.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.execution.step.run_options import PREFIXES
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.state.sets import read_state

if TYPE_CHECKING:
    from floe_orchestrator_dagster.execution.step.run_options import DbtOptions
    from floe_orchestrator_dagster.product import DbtConnection, Product

_SCHEME = "://"


def state_to_read(options: DbtOptions, product: Product, dbt: DbtConnection) -> str | None:
    """Return the state that a run defers to; None if it does not.

    Args:
        options: The run's options.
        product: The product. Its published states are the default.
        dbt: The dbt project, which relative states are in.

    Raises:
        DbtSetupError: There is no state, it has no manifest, or options are only used with ``defer``.
    """
    if options.defer is None and (options.state or options.favor_state):
        name = "state" if options.state else "favor_state"
        raise DbtSetupError(f"run configuration, {name}: it is only used with defer. Set `defer: true`.")
    if not options.defer:
        return None
    state = options.state or default_state(product)
    if state is None:
        raise DbtSetupError("run configuration, defer: there is no state to defer to. Set `state` to a directory.")
    problem = None if _is_published(state, product) else unusable_state(state, dbt.directory.path)
    if problem is not None:
        raise DbtSetupError(f"run configuration, state: {problem[0]}. {problem[1]}")
    return state


def deferral(options: DbtOptions, state: str | None, product: Product, dbt: DbtConnection, target: Path) -> list[str]:
    """Return dbt's arguments to defer to a state.

    Args:
        options: The run's options.
        state: The result of :func:`state_to_read`.
        product: The product.
        dbt: The dbt project and profile.
        target: Directory for dbt's artifacts.

    Raises:
        StateError: A published state is missing or damaged, or its store cannot be reached.
    """
    if state is None:
        return ["--no-defer"] if options.defer is False else _of_environment()
    copy = target / "state"
    copy.mkdir(parents=True, exist_ok=True)
    if _is_published(state, product):
        read_state(state, product.name, _environment(product, dbt), copy).run_results.unlink()
    else:
        shutil.copyfile(_manifest(state, dbt.directory.path), copy / MANIFEST_FILE)
    return ["--defer", "--defer-state", str(copy), *(["--favor-state"] if options.favor_state else [])]


def default_state(product: Product) -> str | None:
    """Return the state of runs that name none: that of dbt's environment variables, or the product's published one."""
    names = (f"{prefix}{name}" for name in ("DEFER_STATE", "STATE") for prefix in PREFIXES)
    return next((found for name in names if (found := os.environ.get(name))), None) or _published(product)


def unusable_state(state: str, project: Path) -> tuple[str, str] | None:
    """Return why dbt cannot defer to a state, and the fix; None if it can. A URL is not opened.

    Args:
        state: The state's directory, or a URL of published states.
        project: Directory of the dbt project. A relative state is in it.
    """
    if _SCHEME in state:
        return None
    manifest = _manifest(state, project)
    if manifest.is_file():
        return None
    fault = f"has no {MANIFEST_FILE}" if manifest.parent.is_dir() else "is not a directory"
    return f"{str(manifest.parent)!r} {fault}", f"Copy the {MANIFEST_FILE} of the other environment into it."


def _is_published(state: str, product: Product) -> bool:
    return _SCHEME in state or state == _published(product)


def _manifest(state: str, project: Path) -> Path:
    return project / Path(state).expanduser() / MANIFEST_FILE


def _published(product: Product) -> str | None:
    """Return the location of the product's published states; None without one, or if its variables are not set."""
    return rendered(product.config.state.url) if product.config.state else None


def _environment(product: Product, dbt: DbtConnection) -> str:
    production = product.config.state.production if product.config.state else None
    return production or dbt.profile.default_target


def _of_environment() -> list[str]:
    """Return ``--defer-state`` with the environment's ``DBT_STATE``.

    A step can pass ``--state`` to select nodes. That would override ``DBT_STATE`` for deferral, too.
    """
    named = (os.environ.get(f"{prefix}DEFER_STATE") for prefix in PREFIXES)
    state = next((found for prefix in PREFIXES if (found := os.environ.get(f"{prefix}STATE"))), None)
    return ["--defer-state", state] if state and not any(named) else []
