"""Views whose last build may have read another table of another compute."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, Unknown
from floe_orchestrator_dagster.execution.step.other_computes import views_built_in_doubt

GRAPH = BuildGraph({"mart": ["shown"], "shown": ["base"]}, {"mart": "table", "shown": "view", "base": "table"})


def built(columns: str | None, **inputs: str | None) -> BuildRecord:
    return BuildRecord("build", "code", "place", inputs, 0, 0.0, columns)


@pytest.mark.parametrize(
    ("state", "compute_of_base", "expected"),
    [
        (built(None, base=None), "other", {"shown"}),
        (built(None), "other", {"shown"}),
        (built(None, base="first"), "other", set()),
        (built("known", base=None), "other", set()),
        (built(None, base=None), "own", set()),
        (Unknown("no run has built it"), "other", set()),
    ],
)
def test_view_without_a_known_input_of_another_compute_may_read_another_table(
    state: BuildRecord | Unknown, compute_of_base: str, expected: set[str]
) -> None:
    states = {"shown": state, "mart": built(None), "base": built("known")}
    found = views_built_in_doubt(GRAPH, states, {"base": compute_of_base, "shown": "own", "mart": "own"}.__getitem__)

    assert found == dict.fromkeys(expected, "its last build may have read another table of another compute")
