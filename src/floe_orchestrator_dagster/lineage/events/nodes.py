"""OpenLineage's jobs and datasets of dbt nodes: inputs and outputs with their columns."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import output_statistics_output_dataset

from floe_orchestrator_dagster.execution.dbt.node_result import NO_RELATION
from floe_orchestrator_dagster.lineage.events.facets import (
    DbtExposuresDatasetFacet,
    Exposure,
    column_lineage_facet,
    node_dataset_facets,
    node_job_facets,
    owners,
)
from floe_orchestrator_dagster.redaction import redact_urls

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Mapping, Sequence

    from openlineage.client.facet_v2 import DatasetFacet, JobFacet, OutputDatasetFacet

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult, NodeStart
    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.lineage.datasets.computes import Computes
    from floe_orchestrator_dagster.lineage.datasets.names import DatasetIdentity
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.manifest import Manifest

_MAKES_TABLE = ("model", "seed", "snapshot")


class Nodes:
    """The nodes of a dbt project on one target.

    While dbt runs, :meth:`learn` adds the actual tables and columns of nodes.
    """

    def __init__(
        self,
        product: Product,
        manifest: Manifest,
        computes: Computes,
        columns: Mapping[str, Mapping[str, str]],
        log: logging.Logger,
    ) -> None:
        """Use all columns of relations that are known before dbt runs, by unique id: the type by column name."""
        # A local import, because it imports sqlglot, which takes 30 MB and which processes without a step do not need.
        from floe_orchestrator_dagster.lineage.columns.built_relations import BuiltRelations

        self._product = product
        self._content = manifest.content
        self._manifest = manifest
        self._computes = computes
        self._warehouse = computes.own.warehouse
        self._relations = BuiltRelations(manifest, self._warehouse.adapter, columns, log)

    def node(self, unique_id: str) -> Mapping[str, Any]:
        """Return a node, source or unit test of the manifest; for an unknown one, only its names."""
        for collection in ("nodes", "sources", "unit_tests"):
            found = self._content[collection].get(unique_id)
            if found is not None:
                return {"resource_type": unique_id.split(".", maxsplit=1)[0], **found}
        kind, _, name = unique_id.partition(".")
        return {"unique_id": unique_id, "resource_type": kind, "name": name.rpartition(".")[2]}

    def learn(self, node: NodeStart | NodeResult) -> None:
        """Record the table of a node, and its columns after the node has run."""
        self._relations.learn(node)

    def identity(self, unique_id: str) -> DatasetIdentity:
        """Return the dataset of a model, seed, snapshot or source."""
        return self._computes.identify(self.node(unique_id), self._relations.name(unique_id) or NO_RELATION)

    def reads(self, unique_id: str) -> list[str]:
        """List the models, seeds, snapshots and sources that a node reads; for ephemeral models, those that they read.

        For a test, the first one is the tested table. A source's freshness check reads the source.
        """
        node = self.node(unique_id)
        if node["resource_type"] == "source":
            return [unique_id]
        read = sorted(self._manifest.relations_read_by(unique_id))
        return sorted(read, key=lambda parent: parent != node.get("attached_node"))

    def tests_table_itself(self, unique_id: str) -> bool:
        """Whether a test checks the first relation that it reads, and not several ones or an ephemeral model."""
        node, read = self.node(unique_id), self.reads(unique_id)
        return len(read) == 1 or node.get("attached_node") in read

    @property
    def namespace(self) -> str:
        """The namespace of the target's own datasets."""
        return self._warehouse.configured_namespace(self._warehouse.namespace)

    def makes(self, unique_id: str) -> list[str]:
        """List the relation that a node builds: the node itself; empty for tests."""
        return [unique_id] if self.node(unique_id)["resource_type"] in _MAKES_TABLE else []

    def job_facets(self, unique_id: str, sql: str | None) -> dict[str, JobFacet]:
        """Describe a node's job."""
        node = self.node(unique_id)
        return node_job_facets(node, self._product, self._content["groups"], self._warehouse.adapter, sql)

    def consumer_facets(self, unique_id: str) -> dict[str, DatasetFacet]:
        """Return the facet with the exposures that read a relation; empty without exposures."""
        exposures = self._exposures.get(unique_id)
        return {"dbt_exposures": DbtExposuresDatasetFacet(exposures=exposures)} if exposures else {}

    @cached_property
    def _exposures(self) -> Mapping[str, list[Exposure]]:
        """The exposures that read each relation, unless the configuration leaves out exposures (``consumers``)."""
        found: dict[str, list[Exposure]] = defaultdict(list)
        if "exposures" not in self._product.config.consumers:
            return found
        for unique_id, node in sorted((self._content.get("exposures") or {}).items()):
            url = redact_urls(node.get("url") or "") or None
            exposure = Exposure(unique_id, node["name"], node.get("type") or None, url)
            for relation in self._manifest.relations_read_by(unique_id):
                found[relation].append(exposure)
        return found

    def column_lineage(self, result: NodeResult) -> ColumnLineage | None:
        """Return a node's column lineage; None without SQL, or when its SQL cannot be parsed."""
        return self._relations.column_lineage(result)

    def inputs(self, unique_ids: Iterable[str], lineage: ColumnLineage | None) -> list[InputDataset]:
        """Return input datasets; their columns include those that ``lineage`` reads."""
        read = lineage.columns_read if lineage else {}
        return [
            InputDataset(
                namespace=self.identity(unique_id).dataset.namespace,
                name=self.identity(unique_id).dataset.name,
                facets=self._facets(unique_id, read.get(unique_id, ())),
            )
            for unique_id in unique_ids
        ]

    def outputs(
        self, unique_ids: Iterable[str], lineage: ColumnLineage | None, result: NodeResult | None
    ) -> list[OutputDataset]:
        """Return output datasets, with column lineage and row counts if they are known."""
        return [self._output(unique_id, lineage, result) for unique_id in unique_ids]

    def _output(self, unique_id: str, lineage: ColumnLineage | None, result: NodeResult | None) -> OutputDataset:
        name = self.identity(unique_id).dataset
        facets = self._facets(unique_id, (lineage.output or tuple(lineage.fields)) if lineage else ())
        if lineage:
            names = {parent: self.identity(parent).dataset for parent in self.reads(unique_id)}
            facet = column_lineage_facet(lineage, names)
            if facet is not None:
                facets["columnLineage"] = facet
        statistics: dict[str, OutputDatasetFacet] = {}
        if result is not None and result.rows_affected is not None:
            rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=result.rows_affected)
            statistics["outputStatistics"] = rows
        return OutputDataset(namespace=name.namespace, name=name.name, facets=facets, outputFacets=statistics)

    def _facets(self, unique_id: str, used: Sequence[str]) -> dict[str, DatasetFacet]:
        node = self.node(unique_id)
        owning = owners(node, self._product, self._content["groups"])
        return node_dataset_facets(node, self.identity(unique_id), owning, self._schema(unique_id, used))

    def _schema(self, unique_id: str, used: Sequence[str]) -> Mapping[str, str | None]:
        """Return a relation's actual columns, or else the documented and used ones."""
        known = self._relations.columns(unique_id)
        documented = self.node(unique_id).get("columns") or {}
        columns: dict[str, str | None] = dict(known or {})
        if known is None:
            columns = {str(name): column.get("data_type") for name, column in documented.items()}
        folded = {name.lower() for name in columns}
        return columns | {name: None for name in used if name.lower() not in folded}
