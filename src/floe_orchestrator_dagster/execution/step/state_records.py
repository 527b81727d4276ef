"""Fingerprint and table of each build, recorded in the metadata of its materialization for the published state.

Runs that read or write other rows than usual, such as with ``--empty`` or another target, record nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.execution.step.build_facts import unusable_manifest
from floe_orchestrator_dagster.product.build_fingerprints import portable_fingerprints
from floe_orchestrator_dagster.product.fingerprints import FINGERPRINT_FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.run_options import DbtOptions

STATE = "floe/state"
"""Key of the metadata."""
_TABLE = ("database", "schema", "alias")


@dataclass(frozen=True)
class RecordedState:
    """The record of a build.

    Attributes:
        fingerprint: The node's fingerprint without what differs between environments.
        relation: The fields of the node in dbt's manifest that name its table in the run.
    """

    fingerprint: str
    relation: Mapping[str, str | None]


@dataclass(frozen=True)
class StateRecords:
    """Records of a run's builds.

    Attributes:
        fingerprints: The fingerprint of each node, by unique id.
    """

    fingerprints: Mapping[str, str]

    def metadata(self, result: NodeResult, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metadata of a build.

        Args:
            result: The node's result.
            node: The node with the names of its table in this run.
        """
        fingerprint = self.fingerprints.get(result.unique_id)
        if fingerprint is None:
            return {}
        relation = {name: node.get(name) for name in _TABLE}
        name = result.relation.name or node.get("relation_name")
        content = {"format": FINGERPRINT_FORMAT, "fingerprint": fingerprint, **relation, "relation_name": name}
        return {STATE: dg.JsonMetadataValue(content)}


def state_records(context: dg.OpExecutionContext, step: DbtStep, options: DbtOptions) -> StateRecords | None:
    """Return the records of a step's builds; None if no state is configured or the run has options that change rows."""
    if step.product.config.state is None:
        return None
    reason = options.difference(step.connection.profile.environment) or unusable_manifest(step)
    if reason:
        context.log.info("the builds of this step are not part of the published state: %s", reason)
        return None
    return StateRecords(portable_fingerprints(step.manifest, step.connection))


def recorded_state(metadata: Mapping[str, dg.MetadataValue[Any]]) -> RecordedState | None:
    """Read the record in a materialization's metadata; None without one, or for one of another format."""
    found = metadata.get(STATE)
    content = found.value if found is not None else None
    if not isinstance(content, dict) or content.get("format") != FINGERPRINT_FORMAT:
        return None
    fingerprint = content.get("fingerprint")
    relation = {name: content.get(name) for name in (*_TABLE, "relation_name")}
    return RecordedState(fingerprint, relation) if isinstance(fingerprint, str) else None
