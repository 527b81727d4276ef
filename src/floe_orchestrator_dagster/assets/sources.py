"""Sources of the dbt project that are assets in Dagster, their asset keys, and collisions of asset keys.

A source can have the same key as a model, or be the table that a model builds. dagster-dbt rejects the first case when
another model reads the source. In the second case, Dagster finds the model by ``dagster/table_name``.

A project can declare thousands of sources that nothing reads, and every process would load all of them. Therefore only
used sources are assets, unless the configuration has ``sources: all``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.names import acceptable_key_part
from floe_orchestrator_dagster.config.automation import AssetSensorConfig
from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.product.manifest import freshness_criteria

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.assets.attributes import AssetAttributes
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.manifest import Manifest

    Node = Mapping[str, Any]


@dataclass(frozen=True)
class SourceKeys:
    """Asset keys of sources after the resolution of collisions.

    Attributes:
        own: Another key for each source whose default key collides with that of another node, by unique id.
        key_of: Key of every model, seed, snapshot and source that is an asset, by unique id.
        tables: The model, seed or snapshot that builds the table of a source, by the source's unique id. Readers of
            the source depend on that node.
        unclear: Sources whose tables nodes build, but several nodes, or one that depends on a reader of the source.
        problems: Collisions that cannot be resolved.
    """

    own: Mapping[str, dg.AssetKey]
    key_of: Mapping[str, dg.AssetKey]
    tables: Mapping[str, str]
    unclear: frozenset[str]
    problems: tuple[Problem, ...]


def asset_sources(product: Product, attributes: AssetAttributes) -> Mapping[str, Node]:
    """Return the sources that are assets, by unique id.

    ``sources: all`` in the configuration makes all sources assets. Otherwise a source is an asset in these cases:

    - A node of the project reads it, such as a model, a test or an exposure.
    - It has freshness limits, or ``meta.dagster`` in its properties.
    - The contract names it, or an asset sensor watches its default key (before changes by a custom translator).

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


def source_keys(
    manifest: Manifest,
    sources: Mapping[str, Node],
    key_of: Callable[[Node], dg.AssetKey],
    prefix: Sequence[str],
    *,
    may_share: bool,
) -> SourceKeys:
    """Find and resolve collisions of the keys of all nodes.

    Args:
        manifest: The dbt manifest.
        sources: The sources that are assets, by unique id.
        key_of: Returns the default key of a node, from its name or ``meta.dagster.asset_key``.
        prefix: Prefix of all keys.
        may_share: Whether several sources may have one key.
    """
    nodes = manifest.asset_nodes
    reads = {node["unique_id"]: manifest.relations_read_by(node["unique_id"]) for node in nodes}
    read = frozenset().union(*reads.values())
    keys = {node["unique_id"]: key_of(node) for node in [*nodes, *sources.values()]}
    built, shared = _by_key(nodes, keys), _by_key(sources.values(), keys)
    tables = _tables(manifest, sources, reads)
    problems = [_collision(group, key) for key, group in built.items() if len(group) > 1]
    # The sources that get another key, because nothing reads them or a model has their default key.
    renamed: list[Node] = []
    for key, group in shared.items():
        kept = [source for source in group if source["unique_id"] in read]
        if key in built:
            renamed.extend(group)
            clashing = [source for source in kept if tables.get(source["unique_id"]) != built[key][0]["unique_id"]]
            problems.extend(_collision([built[key][0], source], key) for source in clashing)
        elif len(group) > 1 and not may_share:
            first = min(kept or group, key=_unique_id)
            renamed.extend(source for source in group if source not in kept and source is not first)
            problems.extend([_collision(kept, key)] if len(kept) > 1 else [])
    own = {source["unique_id"]: dg.AssetKey([*prefix, *source["unique_id"].split(".", 3)]) for source in renamed}
    # A dependency on a key of several sources is ambiguous.
    ambiguous = {source["unique_id"] for group in shared.values() if len(group) > 1 for source in group} - own.keys()
    unambiguous = {source: model for source, model in tables.items() if source not in ambiguous}
    relations = {_relation(node) for node in nodes} - {""}
    unclear = {one for one, source in sources.items() if _relation(source) in relations} - unambiguous.keys()
    return SourceKeys(own, keys | own, unambiguous, frozenset(unclear), (*problems,))


def _by_key(nodes: Iterable[Node], keys: Mapping[str, dg.AssetKey]) -> Mapping[dg.AssetKey, list[Node]]:
    found: defaultdict[dg.AssetKey, list[Node]] = defaultdict(list)
    for node in nodes:
        found[keys[node["unique_id"]]].append(node)
    return found


def _tables(manifest: Manifest, sources: Mapping[str, Node], reads: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Find the sources that are tables of models.

    A source is left out if its model depends on a reader of the source, because the graph would have a cycle.
    """
    models: defaultdict[str, list[str]] = defaultdict(list)
    for node in manifest.asset_nodes:
        models[_relation(node)].append(node["unique_id"])
    graph = {unique_id: set(parents) for unique_id, parents in reads.items()}
    readers_of: defaultdict[str, list[str]] = defaultdict(list)
    for reader, parents in reads.items():
        for parent in parents:
            readers_of[parent].append(reader)
    found: dict[str, str] = {}
    for unique_id, source in sorted(sources.items()):
        relation = _relation(source)
        builders = models.get(relation, []) if relation else []
        if len(builders) != 1:
            continue
        readers = readers_of[unique_id]
        if not readers or not _ancestors(builders[0], graph).intersection(readers):
            found[unique_id] = builders[0]
            for reader in readers:
                graph[reader].add(builders[0])
    return found


def _ancestors(unique_id: str, graph: Mapping[str, set[str]]) -> set[str]:
    """Return the node and everything that it depends on."""
    found, waiting = {unique_id}, [unique_id]
    while waiting:
        more = graph.get(waiting.pop(), set()) - found
        found |= more
        waiting.extend(more)
    return found


def _relation(node: Node) -> str:
    """Return a node's table as lower-case database, schema and name; empty when the manifest has none."""
    if not node.get("relation_name"):
        return ""
    table = node.get("identifier") or node.get("alias") or node["name"]
    return ".".join(str(part or "").strip('"`[]').lower() for part in (node.get("database"), node.get("schema"), table))


def _unique_id(node: Node) -> str:
    return str(node["unique_id"])


def _collision(group: Sequence[Node], key: dg.AssetKey) -> Problem:
    ordered = sorted(group, key=_unique_id)
    named = " and ".join(f"{node['unique_id']} ({node.get('original_file_path')})" for node in ordered)
    fix = "Give one of them another key by `meta.dagster.asset_key`"
    if all(node["resource_type"] == "source" for node in group):
        fix = f"{fix}, or set plugins.orchestrator.config.dbt.enable_duplicate_source_asset_keys: true"
    return Problem("", f"{named} have the asset key {key.to_user_string()!r}", f"{fix}.")


def _watched(product: Product) -> set[tuple[str, ...]]:
    """Return the last two parts of the keys that asset sensors of the configuration watch."""
    sensors = [sensor for sensor in product.config.sensors if isinstance(sensor, AssetSensorConfig)]
    return {(*sensor.asset.split("/")[-2:],) for sensor in sensors}


def _end_of_key(source: Node) -> tuple[str, ...]:
    """Return the last two parts of a source's key. All parts before them are prefixes."""
    return (acceptable_key_part(source["source_name"]), acceptable_key_part(source["name"]))


def _meta_of_dagster(source: Node) -> bool:
    metas = ((source.get("config") or {}).get("meta"), source.get("meta"))
    return any("dagster" in (meta or {}) for meta in metas)
