"""Asset keys of dbt sources, and collisions of asset keys.

A source can have the same key as a model, or be the table that a model builds. dagster-dbt rejects the first case when
another model reads the source. In the second case, Dagster finds the model by ``dagster/table_name``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.product.manifest import Manifest

    Node = Mapping[str, Any]


@dataclass(frozen=True)
class SourceKeys:
    """Keys of the served sources after the resolution of collisions.

    Attributes:
        own: Alternative key of each source whose default key another node has, by unique id.
        key_of: Key of every model, seed, snapshot and served source, by unique id.
        tables: The model, seed or snapshot that builds the table of a source, by the source's unique id. Readers of
            the source depend on that node.
        problems: Collisions that cannot be resolved.
    """

    own: Mapping[str, dg.AssetKey]
    key_of: Mapping[str, dg.AssetKey]
    tables: Mapping[str, str]
    problems: tuple[Problem, ...]


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
        sources: The served sources, by unique id.
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
    yielding: list[Node] = []
    for key, group in shared.items():
        kept = [source for source in group if source["unique_id"] in read]
        if key in built:
            yielding.extend(group)
            clashing = [source for source in kept if tables.get(source["unique_id"]) != built[key][0]["unique_id"]]
            problems.extend(_collision([built[key][0], source], key) for source in clashing)
        elif len(group) > 1 and not may_share:
            first = min(kept or group, key=_unique_id)
            yielding.extend(source for source in group if source not in kept and source is not first)
            problems.extend([_collision(kept, key)] if len(kept) > 1 else [])
    own = {source["unique_id"]: dg.AssetKey([*prefix, *source["unique_id"].split(".", 3)]) for source in yielding}
    # A dependency on a key of several sources is ambiguous.
    several = {source["unique_id"] for group in shared.values() if len(group) > 1 for source in group} - own.keys()
    unmistakable = {source: model for source, model in tables.items() if source not in several}
    return SourceKeys(own, keys | own, unmistakable, (*problems,))


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
