"""dbt-core's events, as its JSON log has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.core_events import CoreEvents
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.dbt.results import Results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet


def started(name: str, resource_type: str = "model") -> dict[str, Any]:
    """Make the event of a node's start."""
    return event("NodeStart", name, resource_type)


def finished(name: str, status: str = "success", resource_type: str = "model", **result: object) -> dict[str, Any]:
    """Make the event of a node's end."""
    shown = {
        "status": status,
        "message": "",
        "execution_time": 0.5,
        "adapter_response": {},
        "num_failures": 0,
        **result,
    }
    return event("NodeFinished", name, resource_type, run_result=shown)


def event(kind: str, name: str, resource_type: str, **data: object) -> dict[str, Any]:
    """Make an event of a node."""
    node = {
        "unique_id": f"{resource_type}.shop.{name}",
        "node_name": name,
        "resource_type": resource_type,
        "materialized": "view" if resource_type == "model" else resource_type,
        "node_relation": {"relation_name": f'"shop"."main"."{name}"'},
    }
    return {"info": {"name": kind, "invocation_id": "i-1", "level": "debug"}, "data": {"node_info": node, **data}}


def result_of(finished_event: Mapping[str, Any]) -> NodeResult:
    """Read the event of a node's end."""
    result = CoreEvents().read(finished_event)
    assert isinstance(result, NodeResult)
    return result


def results_of(
    *events: Mapping[str, Any],
    parents: Mapping[str, Sequence[str]] | None = None,
    expected: int | None = None,
    continued: AbstractSet[str] = frozenset(),
) -> Results:
    """Collect the results of an invocation."""
    results, reader = Results(parents or {}, expected, continued), CoreEvents()
    for one in events:
        value = reader.read(one)
        if value is not None:
            results.add(value)
    return results
