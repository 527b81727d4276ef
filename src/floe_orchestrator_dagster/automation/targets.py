"""What the selections of jobs and schedules stand for: asset keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg
from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

from floe_orchestrator_dagster.config import config_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.product import Product


@dataclass(frozen=True)
class Targets:
    """The assets of a product, found by dbt selection.

    Attributes:
        assets: Everything the product defines.
        selection: Its selections.
    """

    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]
    selection: NodeSelection

    def keys(self, select: str, exclude: str | None, where: str) -> list[dg.AssetKey]:
        """Return the keys of the selected assets, sorted; ``where`` is the section's place, for errors.

        Raises:
            ConfigError: As :meth:`NodeSelection.unique_ids`.
        """
        return sorted(self._keys[unique_id] for unique_id in self.selection.unique_ids(select, exclude, where))

    def job_keys(self, product: Product, name: str) -> list[dg.AssetKey]:
        """Return the keys of the assets that a job of the product builds."""
        row = next((row for row, job in enumerate(product.config.jobs) if job.name == name), None)
        if row is None:
            return list(self._keys.values())
        job = product.config.jobs[row]
        return self.keys(job.select, job.exclude, config_path("jobs", row))

    @cached_property
    def sources(self) -> list[dg.AssetKey]:
        """Keys of what the product reads and does not build."""
        return [asset.key for asset in self.assets if isinstance(asset, dg.AssetSpec)]

    @cached_property
    def _keys(self) -> Mapping[str, dg.AssetKey]:
        """Asset keys by dbt's unique id; by the model's name where the product has no dbt project."""
        specs = [spec for asset in self.assets if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs]
        return {spec.metadata.get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, spec.key.path[-1]): spec.key for spec in specs}
