"""External assets of dbt's exposures, semantic models, metrics and saved queries.

dbt builds none of them: they describe what reads its models, such as a dashboard. Each depends in Dagster on what it
reads, with ephemeral models looked through.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import (
    AssetAttributes,
    AssetLinks,
    dagster_owners,
    declared_owners,
    declared_tags,
)
from floe_orchestrator_dagster.assets.contracts import ingestion_key
from floe_orchestrator_dagster.assets.names import acceptable_key_part, acceptable_name
from floe_orchestrator_dagster.redaction import redact_urls
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

if TYPE_CHECKING:
    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator

    Node = Mapping[str, Any]
    Keys = Mapping[str, dg.AssetKey]

logger = logging.getLogger(__name__)


def consumer_assets(translator: ProductTranslator) -> list[dg.AssetSpec]:
    """Return the specs of the consumers that the configuration selects (``consumers``).

    The key is the configured ``key_prefix``, dbt's resource type and the name, such as ``exposure/weekly``, or exactly
    that in ``meta.dagster.asset_key``. If another asset has this key, the name of the dbt package is inserted.

    Args:
        translator: Translator of the product's nodes.
    """
    if translator.product.dbt is None:
        return []
    nodes = _consumers(translator)
    attributes, links = AssetAttributes(translator.product), AssetLinks(translator.product)
    keys = _keys(nodes, translator, attributes)
    return [
        dg.AssetSpec(
            keys[unique_id],
            deps=sorted(_parents(unique_id, keys, translator)),
            description=(node.get("description") or "").strip() or f"dbt {_shown_kind(node)} {node['name']}",
            group_name=translator.group_of(node),
            kinds={"dbt", _asset_kind(node)},
            owners=_owners(node) or attributes.owners,
            tags={**declared_tags(_listed(node["tags"])), **attributes.product_tags},
            metadata={
                DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: unique_id,
                **attributes.product_metadata,
                **_described(node),
                **links.metadata(node, is_reduced=attributes.has_many_assets),
            },
        )
        for unique_id, node in nodes.items()
    ]


def _consumers(translator: ProductTranslator) -> dict[str, Node]:
    """Return the selected consumers by unique id, sorted, each with its configuration, ``meta`` and tags.

    dbt 1.9 has ``meta`` and tags of some kinds in the configuration only.
    """
    product = translator.product
    content = product.dbt.manifest.content if product.dbt else {}
    found: dict[str, Node] = {}
    for collection in product.config.consumers:
        for unique_id, node in (content.get(collection) or {}).items():
            config = node.get("config") or {}
            meta, tags = node.get("meta") or config.get("meta") or {}, node.get("tags") or config.get("tags") or []
            found[unique_id] = {**node, "config": config, "meta": meta, "tags": tags}
    return dict(sorted(found.items()))


def _keys(
    nodes: Mapping[str, Node], translator: ProductTranslator, attributes: AssetAttributes
) -> dict[str, dg.AssetKey]:
    """Choose a key for each consumer that no other asset of the product has."""
    prefix = translator.product.config.key_prefix
    ingested = (ingestion_key(output, prefix) for output in attributes.ingestion.unmatched)
    taken = {*translator.key_of.values(), translator.product_key, *ingested}
    found: dict[str, dg.AssetKey] = {}
    for unique_id, node in nodes.items():
        kind, name = str(node["resource_type"]), acceptable_key_part(node["name"])
        declared = _listed((node["meta"].get("dagster") or {}).get("asset_key"))
        usual = [dg.AssetKey([*prefix, kind, name])]
        whole = [*prefix, kind, acceptable_key_part(node["package_name"])]
        numbered = (dg.AssetKey([*whole, name if number == 1 else f"{name}_{number}"]) for number in count(1))
        candidates = chain([dg.AssetKey(declared)] if declared else usual, numbered)
        key = found[unique_id] = next(key for key in candidates if key not in taken)
        if declared and key != dg.AssetKey(declared):
            logger.warning("%s: the key %s of %s is taken", translator.product.origin, "/".join(declared), unique_id)
        taken.add(key)
    return found


def _parents(unique_id: str, keys: Keys, translator: ProductTranslator) -> set[dg.AssetKey]:
    """Find the assets that a consumer reads; consumers that are not assets and ephemeral models are looked through."""
    parents = translator.product.dbt.manifest.content["parent_map"] if translator.product.dbt else {}
    found: set[dg.AssetKey] = set()
    seen: set[str] = set()
    waiting = [*parents.get(unique_id, ())]
    while waiting:
        parent = waiting.pop()
        if parent in seen:
            continue
        seen.add(parent)
        read = translator.sources.tables.get(parent, parent)
        key = keys.get(read) or translator.key_of.get(read)
        if key is not None:
            found.add(key)
        else:
            waiting += parents.get(parent, ())
    return found


def _asset_kind(node: Node) -> str:
    """Return the kind of a consumer: the type of an exposure, such as ``dashboard``, or dbt's resource type."""
    if node["resource_type"] == "exposure" and node.get("type"):
        return acceptable_name(str(node["type"]).lower())
    return str(node["resource_type"])


def _shown_kind(node: Node) -> str:
    return str(node["resource_type"]).replace("_", " ")


def _owners(node: Node) -> list[str]:
    """Return the owners in ``meta.dagster``; else the email addresses of an exposure's owner, or its name as a team."""
    declared = declared_owners(node)
    owner = node.get("owner")
    if declared or not isinstance(owner, Mapping):
        return declared
    named = _listed(owner.get("email")) or _listed(owner.get("name"))
    return [found for name in named for found in dagster_owners(name.strip())]


def _described(node: Node) -> dict[str, Any]:
    """Return the fields of a consumer that Dagster has no attribute for, as metadata."""
    parameters, query = node.get("type_params") or {}, node.get("query_params") or {}
    kind = node["resource_type"]
    url = redact_urls(node.get("url") or "")
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


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value] if value else []
    return [str(one) for one in values if one is not None]
