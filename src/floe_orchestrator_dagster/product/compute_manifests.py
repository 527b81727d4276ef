"""Manifests of a product's computes: the dbt project, parsed for the target of each of them.

The product's own manifest is that of its default compute. A node can have other settings, inputs and names on another
target. The manifests of other computes are below ``computes`` in dbt's target directory. Only runs that build what has
changed need them.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import FloeDagsterError, ManifestError
from floe_orchestrator_dagster.product.manifest import (
    MANIFEST_FILE,
    PREPARE_COMMAND,
    Manifest,
    find_manifest,
    read_product_manifest,
)
from floe_orchestrator_dagster.product.values import DbtConnection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from floe_orchestrator_dagster.product.values import DbtProject, Product

logger = logging.getLogger(__name__)

_FAILED_FILE = "not_parsed.txt"


def parse_for_computes(product: Product, source: Callable[[DbtConnection, Path | None], Manifest]) -> None:
    """Parse a product's dbt project for the computes whose target or engine is not that of its manifest.

    Nothing is parsed if no run of the product builds what has changed. A compute for which the project cannot be parsed
    is logged as a warning, once for each manifest of the product.

    Args:
        product: The product.
        source: Parses a project, if that is necessary.
    """
    dbt = product.dbt
    if dbt is None or not product.config.builds_changed:
        return
    for compute in filter(dbt.is_parsed_otherwise, dbt.profiles):
        connection = _connection(dbt, compute)
        directory = connection.directory.written_target
        if _has_failed(directory / _FAILED_FILE, dbt.manifest.path):
            continue
        try:
            source(connection, product.path)
        except FloeDagsterError as error:
            effect = (
                "With `build: changed`, the assets of this compute, and those that read them, are built in each run."
            )
            fix = f"Correct the project and run `{PREPARE_COMMAND}`."
            logger.warning("the dbt project cannot be parsed for compute %s. %s %s %s", compute, effect, fix, error)
            with suppress(OSError):
                (directory / MANIFEST_FILE).unlink(missing_ok=True)
                (directory / _FAILED_FILE).write_text(f"{error}\n", encoding="utf-8")


def compute_manifest(dbt: DbtProject, compute: str) -> Manifest | None:
    """Return the manifest that was parsed for a compute; None without a valid one."""
    if not dbt.is_parsed_otherwise(compute):
        return dbt.manifest
    path = find_manifest(_connection(dbt, compute).directory)
    try:
        return read_product_manifest(path) if path is not None else None
    except (ManifestError, OSError) as error:
        logger.warning("%s", error)
        return None


def _has_failed(mark: Path, manifest: Path) -> bool:
    """Return whether the project could not be parsed for a compute since the product's manifest was parsed."""
    try:
        return mark.stat().st_mtime >= manifest.stat().st_mtime
    except OSError:
        return False


def _connection(dbt: DbtProject, compute: str) -> DbtConnection:
    own = dbt.on(compute)
    return DbtConnection(own.directory.of_compute(compute), own.profile, choice=own.choice)
