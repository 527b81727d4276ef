"""The manifest of the dbt that runs in this process, for fields that dbt's events lack.

dbt stores it in the context of its command. Without it, names of tables and compiled code are unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

_TABLES = {"model", "seed", "snapshot"}
_FIELDS = ("database", "schema", "alias", "identifier", "relation_name")
_CODE = "compiled_code"


class RunningManifest:
    """The project as dbt has loaded it."""

    def __init__(self, manifest: Manifest | None) -> None:
        """Wrap dbt's manifest; None for an unknown one."""
        self._manifest = manifest

    @classmethod
    def current(cls) -> RunningManifest:
        """Return the manifest of the running dbt. Call it in dbt's main thread, after the project is parsed."""
        from click import get_current_context

        context = get_current_context(silent=True)
        return cls((context.obj or {}).get("manifest") if context is not None else None)

    def table_names(self) -> dict[str, dict[str, str | None]]:
        """Return the names of the tables of models, seeds, snapshots and sources in this environment, by unique id."""
        if self._manifest is None:
            return {}
        nodes = [node for node in self._manifest.nodes.values() if node.resource_type in _TABLES]
        return {
            node.unique_id: {name: getattr(node, name) for name in _FIELDS if hasattr(node, name)}
            for node in [*nodes, *self._manifest.sources.values()]
        }

    def compiled_code(self, unique_id: str) -> str | None:
        """Return the compiled query of a node. dbt does not write a snapshot's query to a file."""
        node = self._manifest.nodes.get(unique_id) if self._manifest is not None else None
        return getattr(node, _CODE, None)
