"""Facets of jobs and datasets, from dbt's manifest, the contract and floe.yaml."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import attrs
from openlineage.client.facet_v2 import (
    DatasetFacet,
    catalog_dataset,
    column_lineage_dataset,
    dataset_type_dataset,
    datasource_dataset,
    documentation_dataset,
    documentation_job,
    job_type_job,
    ownership_dataset,
    ownership_job,
    schema_dataset,
    source_code_location_job,
    sql_job,
    symlinks_dataset,
    tags_dataset,
    tags_job,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from openlineage.client.facet_v2 import JobFacet

    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage, InputColumn
    from floe_orchestrator_dagster.lineage.datasets.names import DatasetIdentity, DatasetName
    from floe_orchestrator_dagster.product import Product

    Columns = Mapping[str, str | None]

_JOB_TYPES = {"model": "MODEL", "seed": "SEED", "snapshot": "SNAPSHOT"}
_DATASET_TYPES = {
    "view": ("VIEW", None),
    "materialized_view": ("VIEW", "MATERIALIZED"),
    "dynamic_table": ("TABLE", "MATERIALIZED"),
    "streaming_table": ("TABLE", "MATERIALIZED"),
    "external": ("TABLE", "EXTERNAL"),
}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")
_SSH_REPOSITORY = re.compile(r"(?:ssh://)?git@(?P<host>[^:/]+)[:/](?P<path>.+)")
_KEPT_IN_URIS = ":/?#[]@!$&'()*+,;=%~"


@attrs.define
class Exposure:
    """An exposure in :class:`DbtExposuresDatasetFacet`."""

    unique_id: str
    name: str
    type: str | None = None
    url: str | None = None


@attrs.define
class DbtExposuresDatasetFacet(DatasetFacet):
    """The exposures that read a table: the facet ``dbt_exposures`` of OpenLineage's own dbt integration.

    The client has no class for it, and the integration is not a dependency at run time.
    """

    exposures: list[Exposure] = attrs.field(factory=list)

    @staticmethod
    def _get_schema() -> str:
        return (
            "https://raw.githubusercontent.com/OpenLineage/OpenLineage/main/integration/common/openlineage/common/schema/"
            "dbt-exposures-dataset-facet.json#/$defs/DbtExposuresDatasetFacet"
        )


def node_job_facets(
    node: Mapping[str, Any], product: Product, groups: Mapping[str, Any], adapter: str, sql: str | None
) -> dict[str, JobFacet]:
    """Return the facets of a dbt node's job.

    Args:
        node: The node in dbt's manifest.
        product: The node's product.
        groups: ``groups`` of the manifest.
        adapter: dbt's name of the adapter, for the dialect of ``sql``.
        sql: Compiled SQL; None when it is unknown.
    """
    kind = _JOB_TYPES.get(str(node.get("resource_type")), "TEST")
    facets = job_facets(
        "DBT", kind, str(node.get("description") or ""), owners(node, product, groups), node_tags(node, product)
    )
    if sql and node.get("language", "sql") == "sql":
        facets["sql"] = sql_job.SQLJobFacet(query=sql, dialect=adapter)
    location = _code_location(product, str(node.get("original_file_path") or ""))
    if location is not None:
        facets["sourceCodeLocation"] = location
    return facets


def product_job_facets(product: Product) -> dict[str, JobFacet]:
    """Return the facets of the product's job."""
    spec = product.spec
    tags = [("product_version", product.artifacts.metadata.product_version, "FLOE")]
    tags += [(key, value, "FLOE") for key, value in spec.labels.items()]
    facets = job_facets("DAGSTER", "JOB", spec.description or "", [spec.owner] if spec.owner else [], tags)
    location = _code_location(product, "")
    if location is not None:
        facets["sourceCodeLocation"] = location
    return facets


def job_facets(
    integration: str, kind: str, description: str, owning: Sequence[str], tags: Iterable[tuple[str, str, str]]
) -> dict[str, JobFacet]:
    """Return the facets of a batch job; ``tags`` are (key, value, source)."""
    facets: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet(processingType="BATCH", integration=integration, jobType=kind)
    }
    fields = [tags_job.TagsJobFacetFields(key=key, value=value, source=source) for key, value, source in tags]
    if description:
        facets["documentation"] = documentation_job.DocumentationJobFacet(description=description)
    if owning:
        facets["ownership"] = ownership_job.OwnershipJobFacet(
            owners=[ownership_job.Owner(name=name) for name in owning]
        )
    if fields:
        facets["tags"] = tags_job.TagsJobFacet(tags=fields)
    return facets


def node_dataset_facets(
    node: Mapping[str, Any], identity: DatasetIdentity, owning: Sequence[str], columns: Columns
) -> dict[str, DatasetFacet]:
    """Return the facets of a dbt node's table.

    Args:
        node: The node in dbt's manifest.
        identity: Names of the table.
        owning: Owners of the table.
        columns: Columns in their order, each with its type or None.
    """
    facets = dataset_facets(str(node.get("description") or ""), owning, _schema_fields(node, columns))
    facets["dataSource"] = _data_source(identity.dataset.namespace)
    facets["datasetType"] = _dataset_type(node, identity)
    tags = [
        tags_dataset.TagsDatasetFacetFields(key=tag, value="true", source="DBT") for tag in _texts(node.get("tags"))
    ]
    for name, column in (node.get("columns") or {}).items():
        tags += [
            tags_dataset.TagsDatasetFacetFields(key=tag, value="true", source="DBT", field=name)
            for tag in _texts(column.get("tags"))
        ]
    if tags:
        facets["tags"] = tags_dataset.TagsDatasetFacet(tags=tags)
    symlinks = [*identity.others, *([identity.location] if identity.location else [])]
    if symlinks:
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(
            identifiers=[
                symlinks_dataset.Identifier(
                    namespace=name.namespace, name=name.name, type="LOCATION" if name == identity.location else "TABLE"
                )
                for name in symlinks
            ]
        )
    if identity.catalog:
        facets["catalog"] = catalog_dataset.CatalogDatasetFacet(
            framework=identity.catalog.framework,
            type=identity.catalog.type,
            name=identity.catalog.name,
            metadataUri=identity.catalog.metadata_uri,
            warehouseUri=identity.catalog.warehouse_uri,
            source="duckdb",
        )
    return facets


def dataset_facets(
    description: str, owning: Sequence[str], fields: list[schema_dataset.SchemaDatasetFacetFields]
) -> dict[str, DatasetFacet]:
    """Return the facets of any dataset: description, owners and columns."""
    facets: dict[str, DatasetFacet] = {}
    if fields:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description=description)
    if owning:
        people = [ownership_dataset.Owner(name=name) for name in owning]
        facets["ownership"] = ownership_dataset.OwnershipDatasetFacet(owners=people)
    return facets


def column_lineage_facet(
    lineage: ColumnLineage, names: Mapping[str, DatasetName]
) -> column_lineage_dataset.ColumnLineageDatasetFacet | None:
    """Convert column lineage to OpenLineage's facet; None when no column comes from a dataset in ``names``."""
    fields = {
        column: column_lineage_dataset.Fields(
            inputFields=[_input_field(used, names[used.unique_id]) for used in inputs]
        )
        for column, every in lineage.fields.items()
        if (inputs := [used for used in every if used.unique_id in names])
    }
    rows = [_input_field(used, names[used.unique_id]) for used in lineage.dataset if used.unique_id in names]
    return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, dataset=rows) if fields or rows else None


def owners(node: Mapping[str, Any], product: Product, groups: Mapping[str, Any]) -> list[str]:
    """Return a node's owners: those in its ``meta`` or of its group, else the product's."""
    meta = {**(node.get("meta") or {}), **((node.get("config") or {}).get("meta") or {})}
    declared = meta.get("owner") or meta.get("owners") or []
    names = [_owner_name(owner) for owner in (declared if isinstance(declared, list) else [declared])]
    group = node.get("group") or (node.get("config") or {}).get("group")
    names += [
        _owner_name(entry.get("owner"))
        for entry in groups.values()
        if group and isinstance(entry, dict) and entry.get("name") == group
    ]
    return list(dict.fromkeys(name for name in names if name)) or [name for name in [product.spec.owner] if name]


def node_tags(node: Mapping[str, Any], product: Product) -> list[tuple[str, str, str]]:
    """Return a node's tags: dbt's tags, the materialization, and the contract's tier and compute."""
    tags = [(tag, "true", "DBT") for tag in _texts(node.get("tags"))]
    materialized = str((node.get("config") or {}).get("materialized") or "")
    if materialized:
        tags.append(("materialized", materialized, "DBT"))
    declared = next((model for model in product.models if model.name in {node.get("name"), node.get("alias")}), None)
    if declared is not None and node.get("resource_type") in _JOB_TYPES:
        tags += [("quality_tier", declared.quality_tier, "FLOE")] if declared.quality_tier else []
        tags.append(("compute", declared.compute, "FLOE"))
    return tags


def _schema_fields(node: Mapping[str, Any], columns: Columns) -> list[schema_dataset.SchemaDatasetFacetFields]:
    documented = {str(name).lower(): column for name, column in (node.get("columns") or {}).items()}
    return [
        schema_dataset.SchemaDatasetFacetFields(
            name=name, type=kind or None, description=documented.get(name.lower(), {}).get("description") or None
        )
        for name, kind in columns.items()
    ]


def _input_field(used: InputColumn, name: DatasetName) -> column_lineage_dataset.InputField:
    return column_lineage_dataset.InputField(
        namespace=name.namespace,
        name=name.name,
        field=used.column,
        transformations=[
            column_lineage_dataset.Transformation(type=how.type, subtype=how.subtype, masking=how.masking)
            for how in used.transformations
        ],
    )


def _data_source(namespace: str) -> datasource_dataset.DatasourceDatasetFacet:
    return datasource_dataset.DatasourceDatasetFacet(name=namespace, uri=_uri(namespace))


def _uri(text: str) -> str | None:
    """Return a namespace as an absolute URI; None for a namespace that is not a URI, such as ``bigquery``."""
    uri = quote(text, safe=_KEPT_IN_URIS)
    try:
        has_place = bool(urlsplit(uri).port or True)
    except ValueError:  # such as duckdb://:memory:
        return None
    return uri if has_place and _SCHEME.fullmatch(uri) else None


def _dataset_type(node: Mapping[str, Any], identity: DatasetIdentity) -> dataset_type_dataset.DatasetTypeDatasetFacet:
    materialized = str((node.get("config") or {}).get("materialized") or "")
    kind, detail = _DATASET_TYPES.get(materialized, ("TABLE", "EXTERNAL" if identity.location else None))
    return dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=kind, subType=detail)


def _code_location(product: Product, path: str) -> source_code_location_job.SourceCodeLocationJobFacet | None:
    """Return the location of a file in the product's repository; None when the contract has no repository."""
    repository = product.artifacts.identity.repository.strip().removesuffix(".git").rstrip("/")
    ssh = _SSH_REPOSITORY.fullmatch(repository)
    url = f"{ssh['host']}/{ssh['path']}" if ssh else repository.partition("://")[2] or repository
    url = url.rpartition("@")[2]
    if not url:
        return None
    address = quote(f"https://{url}", safe=_KEPT_IN_URIS)
    return source_code_location_job.SourceCodeLocationJobFacet(
        type="git", url=address, repoUrl=address, path=path or None
    )


def _owner_name(owner: object) -> str:
    if isinstance(owner, dict):
        email = owner.get("email")
        first = email[0] if isinstance(email, list) and email else email
        return str(first or owner.get("name") or "")
    return str(owner or "")


def _texts(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else [values] if isinstance(values, str) else []
