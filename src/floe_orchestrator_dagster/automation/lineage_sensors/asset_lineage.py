"""Python assets in lineage: their definitions in the code location, and their materializations in a run."""

from __future__ import annotations

import os
from datetime import timezone
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from dagster._core.definitions.repository_definition import RepositoryDefinition

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.lineage.datasets.names import DatasetName
    from floe_orchestrator_dagster.lineage.events.python_assets import PythonAsset

# On the sensors of lineage, which product they are of.
LINEAGE_TAG = "floe/lineage_of"
_COLUMNS = "dagster/column_schema"
_ROWS = "dagster/row_count"


class AssetDescriptions:
    """The assets of a code location."""

    def __init__(self, translator: ProductTranslator, repository: RepositoryDefinition | None) -> None:
        """Take the product's translator and what the code location defines; without that, assets are only names."""
        self._product = translator.product
        self._translator = translator
        self._graph = repository.asset_graph if repository is not None else None
        tags = [sensor.tags for sensor in repository.sensor_defs] if repository is not None else []
        self._reporting = {tag[LINEAGE_TAG] for tag in tags if LINEAGE_TAG in tag}

    def reported(self, assets: Collection[dg.AssetKey]) -> set[dg.AssetKey]:
        """Choose the assets of a run that this product reports: its own, and those of no product if it is the one to.

        That is the first by name of the products in the run, else of the code location.
        """
        mine, of = tag_value(self._product.name), {key: self._product_of(key) for key in assets}
        reporting = {mine, *self._reporting}
        first = min(reporting.intersection(of.values()) or reporting)
        return {key for key, product in of.items() if (first if product is None else product) == mine}

    def _product_of(self, key: dg.AssetKey) -> str | None:
        tags = self._graph.get(key).tags if self._graph is not None and self._graph.has(key) else {}
        return tags.get(PRODUCT_TAG)

    def asset(self, key: dg.AssetKey, made: dg.AssetMaterialization | None) -> PythonAsset:
        """Describe an asset; its columns are those of the materialization, else the declared ones."""
        from floe_orchestrator_dagster.lineage.events.python_assets import PythonAsset

        if self._graph is None or not self._graph.has(key):
            return PythonAsset(tuple(key.path), columns=_columns(made.metadata if made else {}))
        node = self._graph.get(key)
        return PythonAsset(
            key=tuple(key.path),
            reads=[tuple(parent.path) for parent in sorted(node.parent_keys)],
            description=node.description or "",
            owners=list(node.owners),
            tags=dict(node.tags),
            columns=_columns(made.metadata if made else {}) or _columns(node.metadata),
        )

    def names(self, key: dg.AssetKey) -> Mapping[tuple[str, ...], DatasetName]:
        """Name the tables of dbt's among an asset and what it reads."""
        reads = self._graph.get(key).parent_keys if self._graph is not None and self._graph.has(key) else ()
        return {tuple(one.path): self._tables[one] for one in (key, *reads) if one in self._tables}

    def rows(self, made: dg.AssetMaterialization | None) -> int | None:
        """Return how many rows a materialization says that it wrote."""
        value = made.metadata.get(_ROWS) if made else None
        return int(value.value) if isinstance(value, dg.IntMetadataValue) and value.value is not None else None

    def window(self, key: dg.AssetKey, partition: str | None) -> tuple[datetime, datetime] | None:
        """Return start and end of a partition in UTC; None of one that is not a time, or not one of the calendar."""
        definition = self._graph.get(key).partitions_def if self._graph is not None and self._graph.has(key) else None
        if partition is None or not isinstance(definition, dg.TimeWindowPartitionsDefinition):
            return None
        try:
            window = definition.time_window_for_partition_key(partition)
            return window.start.astimezone(timezone.utc), window.end.astimezone(timezone.utc)
        except (ValueError, OverflowError):  # a key of partitions as they were defined before, a day such as 9999-12-31
            return None

    @cached_property
    def _tables(self) -> Mapping[dg.AssetKey, DatasetName]:
        """Name the tables of dbt's by their assets' keys, each as on the target that builds it."""
        from floe_orchestrator_dagster.lineage.datasets.computes import read_computes

        dbt = self._product.dbt
        if dbt is None:
            return {}
        computes = read_computes(self._product, dbt.profile, os.environ, PurePosixPath(dbt.directory.path))
        relations = [*dbt.manifest.asset_nodes, *dbt.manifest.content["sources"].values()]
        key_of = self._translator.key_of
        return {key_of[node["unique_id"]]: computes.identify(node).dataset for node in relations}


def _columns(metadata: Mapping[str, object]) -> dict[str, str]:
    value = metadata.get(_COLUMNS)
    schema = value.value if isinstance(value, dg.TableSchemaMetadataValue) else value
    return {column.name: column.type for column in schema.columns} if isinstance(schema, dg.TableSchema) else {}
