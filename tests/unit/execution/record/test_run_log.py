"""Lines of the run's log for results of dbt's nodes."""

from __future__ import annotations

from floe_orchestrator_dagster.execution.dbt.results import Results
from floe_orchestrator_dagster.execution.record.run_log import result_line
from unit.execution.dbt.events import finished, result_of, results_of


def test_a_line_has_count_status_and_duration_or_the_cause_of_a_skip() -> None:
    results = results_of(
        finished("a", "error"), finished("b", "skipped"), parents={"model.shop.b": ["model.shop.a"]}, expected=6
    )

    assert result_line(results, results.finished["model.shop.a"]) == "2/6 error model a, 0.50 s"
    assert result_line(results, results.finished["model.shop.b"]) == "2/6 skipped model b because of a"


def test_nodes_that_dbt_does_not_count_have_no_number() -> None:
    results = Results({}, expected=2)
    ephemeral = finished("amounts")
    ephemeral["data"]["node_info"]["materialized"] = "ephemeral"

    lines = []
    for one in (finished("orders"), ephemeral, finished("report", "no-op", "exposure"), finished("stores")):
        result = result_of(one)
        results.add(result)
        lines.append(result_line(results, result))

    assert lines == [
        "1/2 success model orders, 0.50 s",
        "success model amounts, 0.50 s",
        "no-op exposure report, 0.50 s",
        "2/2 success model stores, 0.50 s",
    ]
