"""Sources of the dbt project that are assets in Dagster.

A project can declare thousands of sources that nothing reads. Each of them would be part of what every process loads
and of what the webserver fetches. Therefore only used sources are assets, unless the configuration asks for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.assets.names import acceptable_key_part
from floe_orchestrator_dagster.config.automation import AssetSensorConfig
from floe_orchestrator_dagster.product.manifest import freshness_criteria

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.assets.attributes import AssetAttributes
    from floe_orchestrator_dagster.product import Product

    Node = Mapping[str, Any]


def served_sources(product: Product, attributes: AssetAttributes) -> Mapping[str, Node]:
    """Return the sources that are assets, by unique id.

    A source is an asset if a node of the project reads it (a model, a test, an exposure, …), if it has freshness
    limits, or if the contract, a sensor of the configuration, or ``meta.dagster`` in its properties names it. A sensor
    has the key without changes by a custom translator.
    ``sources: all`` in the configuration makes all sources assets.

    Args:
        product: The product.
        attributes: Attributes of its assets.
    """
    if product.dbt is None:
        return {}
    content = product.dbt.manifest.content
    sources: Mapping[str, Node] = content["sources"]
    if product.config.sources == "all":
        return sources
    read = {parent for parents in content["parent_map"].values() for parent in parents}
    read.update(attached for node in content["nodes"].values() if (attached := node.get("attached_node")))
    named = attributes.contracts.by_node.keys() | attributes.ingestion.by_source.keys()
    watched = _watched(product)
    return {
        unique_id: source
        for unique_id, source in sources.items()
        if unique_id in read
        or unique_id in named
        or freshness_criteria(source)
        or _meta_of_dagster(source)
        or _end_of_key(source) in watched
    }


def _watched(product: Product) -> set[tuple[str, ...]]:
    """Return the last two parts of the keys that asset sensors of the configuration watch."""
    sensors = [sensor for sensor in product.config.sensors if isinstance(sensor, AssetSensorConfig)]
    return {(*sensor.asset.split("/")[-2:],) for sensor in sensors}


def _end_of_key(source: Node) -> tuple[str, ...]:
    """Return the last two parts of a source's key. Before them are prefixes, such as those of a key that collides."""
    return (acceptable_key_part(source["source_name"]), acceptable_key_part(source["name"]))


def _meta_of_dagster(source: Node) -> bool:
    metas = ((source.get("config") or {}).get("meta"), source.get("meta"))
    return any("dagster" in (meta or {}) for meta in metas)
