"""Owners that dbt nodes declare: ``meta.dagster.owners``, else the owner of the node's group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.assets.attributes import dagster_owners, is_dagster_owner
from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from floe_orchestrator_dagster.product.manifest import Manifest


def declared_owners(node: Mapping[str, Any]) -> list[str]:
    """Return a node's owners in Dagster's form; its ``group`` may be the name or the group itself.

    An email address of a dbt group that Dagster does not accept becomes a team.
    """
    declared = _dagster_owners(node)
    if declared:
        return [owner.strip() for owner in declared if isinstance(owner, str) and is_dagster_owner(owner.strip())]
    group = node.get("group")
    owner = group.get("owner") if isinstance(group, dict) else None
    emails = _listed(owner.get("email")) if isinstance(owner, dict) else []
    return [found for email in emails if isinstance(email, str) for found in dagster_owners(email.strip())]


def owner_problems(manifest: Manifest) -> list[Problem]:
    """Return a problem for each owner in ``meta.dagster.owners`` that Dagster does not accept."""
    nodes = [*manifest.asset_nodes, *manifest.content["sources"].values()]
    return [problem for node in nodes for problem in _problems(node)]


def _problems(node: Mapping[str, Any]) -> Iterator[Problem]:
    for owner in _dagster_owners(node):
        if not isinstance(owner, str) or not is_dagster_owner(owner.strip()):
            yield Problem(
                f"{node['unique_id']} ({node.get('original_file_path')}), meta.dagster.owners",
                f"{owner!r} is not an owner",
                "Write an email address, or `team:` and a name.",
            )


def _dagster_owners(node: Mapping[str, Any]) -> list[object]:
    meta = node.get("meta")
    dagster = meta.get("dagster") if isinstance(meta, dict) else None
    return _listed(dagster.get("owners")) if isinstance(dagster, dict) else []


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else ([value] if value else [])
