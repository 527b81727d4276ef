"""Generation of a ``workspace.yaml`` with one code location per product."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.deploy.entrypoint import write_entry_point
from floe_orchestrator_dagster.deploy.names import check_names_differ, service_name
from floe_orchestrator_dagster.errors import ArtifactsError, DeployError, Problem
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.product import load_product, manifest_kept_fresh
from floe_orchestrator_dagster.product.files import user_path
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.inspect.plan import Plan

_ARTIFACTS = ("compiled_artifacts.json", "target/compiled_artifacts.json")


@dataclass(frozen=True)
class Location:
    """A code location.

    Attributes:
        name: Name of the code location.
        file: The ``definitions.py`` that it loads.
        assets: Number of assets that the product builds.
    """

    name: str
    file: Path
    assets: int


@dataclass(frozen=True)
class Edge:
    """A dependency of one product on an asset of another.

    Attributes:
        product: The product that reads it.
        owner: The product that builds it.
        key: The asset's key, its parts joined by slashes.
    """

    product: str
    owner: str
    key: str


@dataclass(frozen=True)
class Workspace:
    """The written code locations, and the dependencies between their products."""

    locations: tuple[Location, ...]
    edges: tuple[Edge, ...]


def write_workspace(directories: Sequence[Path], output: Path) -> Workspace:
    """Write ``workspace.yaml`` for the products in ``directories``, and a ``definitions.py`` into each directory.

    Dagster cannot set environment variables per code location. Therefore each ``definitions.py`` loads the artifacts
    beside it.

    Raises:
        FloeDagsterError: A product is not valid, names or asset keys collide, or a ``definitions.py`` exists that
            this package did not write.
    """
    _check_environment()
    paths = [_find_artifacts(_absolute(directory, "PRODUCT_DIR")) for directory in directories]
    plans = [_plan(path) for path in paths]
    check_names_differ([(plan.product, path) for plan, path in zip(plans, paths, strict=True)], "PRODUCT_DIR")
    owners = _owners(plans)
    edges = tuple(_edges(plans, owners))
    files = [write_entry_point(plan.product, path.parent) for plan, path in zip(plans, paths, strict=True)]
    locations = tuple(
        Location(service_name(plan.product), file, len(plan.built)) for plan, file in zip(plans, files, strict=True)
    )
    _write(locations, output)
    return Workspace(locations, edges)


def _absolute(path: Path, origin: str) -> Path:
    return user_path(path, origin, DeployError, "Write the path without `~`.")


def _check_environment() -> None:
    if os.environ.get(PROJECT_DIR_VARIABLE):
        what = "is set, so that every code location would use the same dbt project"
        raise DeployError(PROJECT_DIR_VARIABLE, [Problem("", what, f"Unset {PROJECT_DIR_VARIABLE}.")])


def _find_artifacts(directory: Path) -> Path:
    found = next((path for name in _ARTIFACTS if (path := directory / name).is_file()), None)
    if found is None:
        fix = "Pass the directory of a compiled product (floe platform compile)."
        raise ArtifactsError(str(directory), [Problem("", f"has no {' and no '.join(_ARTIFACTS)}", fix)])
    return found


def _plan(path: Path) -> Plan:
    product = load_product(path, manifest_source=manifest_kept_fresh)
    return plan_product(product, build_definitions(product))


def _owners(plans: Sequence[Plan]) -> Mapping[str, str]:
    """Return the product that builds each asset, by the asset's key.

    Raises:
        DeployError: Several products build the same asset.
    """
    builders: dict[str, list[str]] = defaultdict(list)
    for plan in plans:
        for asset in plan.built:
            builders[asset.key].append(plan.product)
    problems = [_collision(key, products) for key, products in builders.items() if len(products) > 1]
    if problems:
        raise DeployError("workspace", problems)
    return {key: products[0] for key, products in builders.items()}


def _collision(key: str, products: Sequence[str]) -> Problem:
    prefixes = [f"[{service_name(product).replace('-', '_')}] for {product}" for product in products[1:]]
    what = f"is built by {len(products)} products: {', '.join(products)}"
    return Problem(
        key, what, f"In manifest.yaml set {config_path('key_prefix')} to {', to '.join(prefixes)}; compile again."
    )


def _edges(plans: Sequence[Plan], owners: Mapping[str, str]) -> Iterator[Edge]:
    for plan in plans:
        for asset in plan.assets:
            owner = owners.get(asset.key)
            if asset.external and owner is not None:
                yield Edge(plan.product, owner, asset.key)


def _write(locations: Sequence[Location], output: Path) -> None:
    base = _absolute(output, "--output").parent
    content = {
        "load_from": [
            {
                "python_file": {
                    "relative_path": os.path.relpath(location.file, base),
                    "location_name": location.name,
                }
            }
            for location in locations
        ]
    }
    text = "# Written by floe-dagster workspace: one code location per product.\n"
    text += yaml.safe_dump(content, sort_keys=False)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = Problem("", f"cannot be written ({error.strerror})", "Choose a file that you can write.")
        raise DeployError(str(output), [problem]) from None
