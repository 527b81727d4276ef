"""External assets of dbt's exposures, semantic models, metrics and saved queries.

dbt builds none of them: they describe what reads its models, such as a dashboard. Each depends in Dagster on what it
reads, with ephemeral models looked through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import (
    AssetAttributes,
    AssetLinks,
    dagster_owners,
    declared_owners,
    declared_tags,
)
from floe_orchestrator_dagster.assets.names import acceptable_key_part, acceptable_name
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator

    Node = Mapping[str, Any]
    Keys = Mapping[str, dg.AssetKey]


def consumer_assets(translator: ProductTranslator) -> list[dg.AssetSpec]:
    """Return the specs of the consumers that the configuration selects (``consumers``).

    The key is the configured ``key_prefix``, the kind and the name, such as ``exposure/weekly_dashboard``, or that in
    ``meta.dagster.asset_key``. If another asset has this key, dbt's package is a part of it, too.

    Args:
        translator: Translator of the product's nodes.
    """
    dbt, config = translator.product.dbt, translator.product.config
    if dbt is None:
        return []
    content = dbt.manifest.content
    nodes = {unique_id: node for kind in config.consumers for unique_id, node in (content.get(kind) or {}).items()}
    keys = _keys(nodes, config.key_prefix, {*translator.key_of.values()})
    attributes, links = AssetAttributes(translator.product), AssetLinks(translator.product)
    return [
        dg.AssetSpec(
            keys[unique_id],
            deps=sorted({*_parents(unique_id, keys, translator)}),
            description=(node.get("description") or "").strip() or f"dbt {_shown_kind(node)} {node['name']}",
            group_name=translator.group_of(node),
            kinds={"dbt", _kind(node)},
            owners=_owners(node) or attributes.owners,
            tags={**declared_tags(_listed(node.get("tags"))), **attributes.product_tags},
            metadata={
                DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: unique_id,
                **attributes.product_metadata,
                **_described(node),
                **links.metadata(node, is_reduced=attributes.has_many_assets),
            },
        )
        for unique_id, node in nodes.items()
    ]


def _keys(nodes: Mapping[str, Node], prefix: Sequence[str], taken: set[dg.AssetKey]) -> dict[str, dg.AssetKey]:
    found: dict[str, dg.AssetKey] = {}
    for unique_id, node in nodes.items():
        declared, kind = _dagster_meta(node).get("asset_key"), str(node["resource_type"])
        parts = _listed(declared) or [kind, acceptable_key_part(node["name"])]
        key = dg.AssetKey([*prefix, *parts])
        if key in taken:
            key = dg.AssetKey([*prefix, kind, *map(acceptable_key_part, (node["package_name"], node["name"]))])
        taken.add(key)
        found[unique_id] = key
    return found


def _parents(unique_id: str, keys: Keys, translator: ProductTranslator) -> Iterator[dg.AssetKey]:
    """Find the assets that a consumer reads; consumers that are not assets and ephemeral models are looked through."""
    dbt = translator.product.dbt
    parents = dbt.manifest.content["parent_map"].get(unique_id, ()) if dbt else ()
    for parent in parents:
        read = translator.sources.tables.get(parent, parent)
        key = keys.get(read) or translator.key_of.get(read)
        if key is not None:
            yield key
        else:
            yield from _parents(parent, keys, translator)


def _kind(node: Node) -> str:
    """Return the kind of a consumer: the type of an exposure, such as ``dashboard``, or dbt's resource type."""
    kind = (node["resource_type"] == "exposure" and node.get("type")) or node["resource_type"]
    return acceptable_name(str(kind).lower())


def _shown_kind(node: Node) -> str:
    return str(node["resource_type"]).replace("_", " ")


def _owners(node: Node) -> list[str]:
    """Return the owners in ``meta.dagster``; else the email addresses of an exposure's owner, or its name as a team."""
    declared = declared_owners({**node, "meta": _meta(node)})
    owner = node.get("owner")
    if declared or not isinstance(owner, Mapping):
        return declared
    named = _listed(owner.get("email")) or _listed(owner.get("name"))
    return [found for name in named for found in dagster_owners(name.strip())]


def _described(node: Node) -> dict[str, Any]:
    """Return the fields of a consumer that Dagster has no attribute for, as metadata."""
    parameters, query = node.get("type_params") or {}, node.get("query_params") or {}
    kind = node["resource_type"]
    url = node.get("url")
    shown = {
        "floe/url": dg.MetadataValue.url(url) if url else None,
        "floe/label": node.get("label"),
        "floe/maturity": node.get("maturity"),
        "floe/metric_type": node.get("type") if kind == "metric" else None,
        "floe/expression": parameters.get("expr"),
        "floe/entities": _names(node.get("entities")),
        "floe/dimensions": _names(node.get("dimensions")),
        "floe/measures": _names(node.get("measures")),
        "floe/metrics": ", ".join(_listed(query.get("metrics"))),
        "floe/group_by": ", ".join(_listed(query.get("group_by"))),
        "floe/exports": _names(node.get("exports")),
    }
    return {key: value for key, value in shown.items() if value}


def _names(members: object) -> str:
    named = (
        [member.get("name") for member in members if isinstance(member, Mapping)] if isinstance(members, list) else []
    )
    return ", ".join(str(name) for name in named if name)


def _meta(node: Node) -> Node:
    """Return ``meta``, which dbt 1.10 and newer have in the configuration, too."""
    return node.get("meta") or (node.get("config") or {}).get("meta") or {}


def _dagster_meta(node: Node) -> Node:
    found = _meta(node).get("dagster")
    return found if isinstance(found, Mapping) else {}


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value] if value else []
    return [str(one) for one in values if one is not None]
