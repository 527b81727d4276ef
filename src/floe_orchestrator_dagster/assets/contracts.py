"""Asset attributes from data contracts and ingestion outputs, and assets of ingested tables without a dbt source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes, dagster_owners, declared_tags
from floe_orchestrator_dagster.assets.freshness import freshness_attributes
from floe_orchestrator_dagster.product.contracts import contract_of
from floe_orchestrator_dagster.product.tags import tag_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_core.schemas.compiled_artifacts import IngestionOutputTable
    from floe_core.schemas.data_contract import SchemaProperty

    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.contracts import TableContract


_CLASSIFICATION = "floe.classification"


def contract_owners(contract: TableContract) -> list[str]:
    """Return the contract's team as Dagster owners."""
    return [owner for name in contract.owners for owner in dagster_owners(name)]


def contract_tags(contract: TableContract) -> dict[str, str]:
    """Return the tags of contract and table, and one per classification of a column (``floe.classification/pii``).

    Each classification becomes a tag, because classifications are free text: the strictest one cannot be chosen.
    """
    tags = declared_tags([*(contract.contract.tags or []), *(contract.table.tags or [])])
    return {**tags, **_classification_tags(contract.classifications)}


def contract_metadata(contract: TableContract, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a data contract: identity, terms, SLA, quality rules, and the table's columns.

    Args:
        contract: The contract.
        columns: dbt's columns by name. Their types and descriptions take precedence over the contract's.
    """
    whole, table = contract.contract, contract.table
    terms = whole.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"schema_", "slaProperties"})
    rules = [rule.model_dump(mode="json", exclude_none=True) for rule in table.quality or []]
    rules += [
        {"column": column.name, **rule.model_dump(mode="json", exclude_none=True)}
        for column in table.properties or []
        for rule in column.quality or []
    ]
    promises = [promise.model_dump(mode="json", exclude_none=True) for promise in whole.slaProperties or []]
    named = {
        "floe/data_contract": whole.id or whole.name,
        "floe/data_contract_version": whole.version,
        "floe/data_contract_status": whole.status,
        "floe/business_name": table.businessName,
        "floe/granularity": table.dataGranularityDescription,
    }
    return {
        **{key: value for key, value in named.items() if value},
        **({"floe/sla": dg.JsonMetadataValue(promises)} if promises else {}),
        **({"floe/data_contract_quality": dg.JsonMetadataValue(rules)} if rules else {}),
        "floe/data_contract_terms": dg.JsonMetadataValue(terms),
        **({"dagster/column_schema": _column_schema(contract, columns)} if table.properties else {}),
    }


def ingestion_metadata(output: IngestionOutputTable) -> dict[str, Any]:
    """Return the metadata of a table that ingestion writes."""
    key = [output.primary_key] if isinstance(output.primary_key, str) else output.primary_key
    described = {
        "floe/ingestion_source": output.source_name,
        "floe/ingestion_source_type": output.source_type,
        "floe/ingestion_table": output.logical_table,
        "floe/table_format": output.table_format,
        "floe/file_format": output.file_format,
        "floe/source_path": output.source_path,
        "floe/write_mode": output.write_mode,
        "floe/schema_contract": output.schema_contract,
        "floe/primary_key": ", ".join(key) if key else None,
        "floe/cursor_field": output.cursor_field,
        "floe/freshness_field": output.freshness_field,
    }
    return {name: value for name, value in described.items() if value}


def ingestion_tags(output: IngestionOutputTable) -> dict[str, str]:
    """Return the tags of a table that ingestion writes: its tier."""
    return {"floe/tier": output.quality_tier}


def _column_schema(contract: TableContract, columns: Mapping[str, Mapping[str, Any]]) -> dg.TableSchema:
    declared = {column.name.lower(): column for column in contract.table.properties or [] if column.name}
    known = {name.lower(): (name, column) for name, column in columns.items()}
    keys = [name for name, column in declared.items() if column.primaryKey]
    return dg.TableSchema(
        columns=[
            _column(known.get(name), declared.get(name), is_only_key=keys == [name])
            for name in dict.fromkeys([*known, *declared])
        ]
    )


def _column(
    known: tuple[str, Mapping[str, Any]] | None, declared: SchemaProperty | None, *, is_only_key: bool
) -> dg.TableColumn:
    name, column = known or ("", {})
    tags = dict.fromkeys(column.get("tags", []), "")
    if declared is None:
        return dg.TableColumn(name, column.get("data_type") or "?", column.get("description") or None, tags=tags)
    classes = [declared.classification] if declared.classification else []
    return dg.TableColumn(
        name=name or declared.name or "",
        type=column.get("data_type") or declared.physicalType or declared.logicalType or "?",
        description=column.get("description") or declared.description,
        constraints=dg.TableColumnConstraints(
            nullable=not (declared.required or declared.primaryKey),
            unique=bool(declared.unique) or is_only_key,
            other=["primary key"] if declared.primaryKey else [],
        ),
        tags={**tags, **declared_tags(declared.tags or []), **_classification_tags(classes)},
    )


def _classification_tags(classes: Iterable[str]) -> dict[str, str]:
    return {f"{_CLASSIFICATION}/{tag_value(name.lower())}": "" for name in classes}


def ingestion_assets(product: Product) -> list[dg.AssetSpec]:
    """Return the spec of each table that ingestion writes and that is not a source of the dbt project.

    Its key is the configured ``key_prefix`` and the table's physical name.
    """
    attributes = AssetAttributes(product)
    return [_spec(output, attributes) for output in attributes.ingestion.unmatched]


def ingestion_key(output: IngestionOutputTable, prefix: Sequence[str]) -> dg.AssetKey:
    """Return the key of a table that ingestion writes and that is not a source of the dbt project."""
    return dg.AssetKey([*prefix, *output.physical_table.split(".")])


def _spec(output: IngestionOutputTable, attributes: AssetAttributes) -> dg.AssetSpec:
    product = attributes.product
    contract = contract_of(attributes.table_contracts, output.physical_table, output.logical_table)
    described = contract.table.description if contract else None
    return dg.AssetSpec(
        ingestion_key(output, product.config.key_prefix),
        description=described or f"Table that the ingestion source {output.source_name} writes.",
        group_name=product.identifier,
        kinds={output.table_format, output.quality_tier},
        owners=(contract_owners(contract) if contract else []) or attributes.owners,
        tags={
            **(contract_tags(contract) if contract else {}),
            **attributes.product_tags,
            **ingestion_tags(output),
        },
        metadata={
            "dagster/table_name": output.physical_table,
            **attributes.product_metadata,
            **ingestion_metadata(output),
            **(contract_metadata(contract, {}) if contract else {}),
        },
        **freshness_attributes(contract),
    )
