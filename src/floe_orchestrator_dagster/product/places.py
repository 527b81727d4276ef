"""A dbt manifest without the places of its tables, for comparisons between environments.

Two environments parse the same project with different targets and environment variables, so that templates such as
``{{ target.schema }}`` have different values. Here, settings have the text of their templates instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.references import texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_TABLE = ("database", "schema")
_BUILT = frozenset({"model", "seed", "snapshot"})
_STARTS = ("{{", "{%")


def without_places(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest whose nodes and sources have templates instead of their values, and no default place.

    Args:
        manifest: The content of a dbt manifest.
    """
    nodes = manifest["nodes"]
    default = _default_place(nodes)
    sources = (manifest.get("sources") or {}).items()
    return {
        **manifest,
        "nodes": {unique_id: _node(node) for unique_id, node in nodes.items()},
        "sources": {unique_id: _source(source, default) for unique_id, source in sources},
    }


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    config, written = node["config"], node.get("unrendered_config") or {}
    templates = {name: value for name, value in written.items() if name in config and _is_template(value)}
    return {**node, **dict.fromkeys(_OF_TABLE), "config": {**config, **templates}}


def _source(source: Mapping[str, Any], default: Mapping[str, object]) -> dict[str, Any]:
    """Return a source whose database and schema are as the project's files have them.

    dbt-core 1.x writes them to the manifest. dbt v2 does not: there, those of the target are left out.
    """
    if "unrendered_schema" in source:
        schema, written = source.get("schema"), source["unrendered_schema"]
        place = [source.get("unrendered_database"), written if _is_template(written) else schema]
    else:
        place = [None if source.get(name) == default.get(name) else source.get(name) for name in _OF_TABLE]
    return {**source, **dict(zip(_OF_TABLE, place, strict=True))}


def _default_place(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, object]:
    """Return the database and schema of nodes that have no such settings: those of the target."""
    built = [node for node in nodes.values() if node["resource_type"] in _BUILT]
    return {name: next((node.get(name) for node in built if not node["config"].get(name)), None) for name in _OF_TABLE}


def _is_template(value: object) -> bool:
    return any(start in text for text in texts_in(value) for start in _STARTS)
