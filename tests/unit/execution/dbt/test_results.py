"""dbt's events become results: status, message, counts, causes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.execution.dbt.results import Results, node_result

if TYPE_CHECKING:
    from collections.abc import Iterator


def started(name: str, resource_type: str = "model") -> dict[str, Any]:
    return event("NodeStart", name, resource_type)


def finished(name: str, status: str = "success", resource_type: str = "model", **result: object) -> dict[str, Any]:
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
    node = {
        "unique_id": f"{resource_type}.shop.{name}",
        "node_name": name,
        "resource_type": resource_type,
        "materialized": "view" if resource_type == "model" else resource_type,
        "node_relation": {"relation_name": f'"shop"."main"."{name}"'},
    }
    return {"info": {"name": kind, "invocation_id": "i-1", "level": "debug"}, "data": {"node_info": node, **data}}


def test_a_result_has_dbts_words_without_colours() -> None:
    coloured = finished("orders", "ERROR", message="\x1b[31mBinder Error\x1b[0m: no column \n")

    result = node_result(coloured)

    assert result is not None
    assert (result.status, result.message, result.seconds) == ("error", "Binder Error: no column", 0.5)
    assert result.has_failed
    assert not result.was_built


@pytest.mark.parametrize(
    ("response", "rows"),
    [({}, None), ({"rows_affected": "12"}, 12), ({"rows_affected": -1}, None), ({"rows_affected": "many"}, None)],
)
def test_rows_are_known_where_the_adapter_counts(response: dict[str, object], rows: int | None) -> None:
    result = node_result(finished("orders", adapter_response=response))

    assert result is not None
    assert result.rows_affected == rows


@pytest.mark.parametrize(
    ("status", "rows"), [("pass", 0), ("fail", 3), ("warn", 3), ("error", None), ("skipped", None)]
)
def test_failed_rows_are_those_of_tests_that_ran(status: str, rows: int | None) -> None:
    result = node_result(finished("unique", status, "test", num_failures=rows or 0))

    assert result is not None
    assert result.failed_rows == rows


def test_an_ephemeral_model_is_not_built() -> None:
    ephemeral = finished("through")
    ephemeral["data"]["node_info"]["materialized"] = "ephemeral"

    result = node_result(ephemeral)

    assert result is not None
    assert not result.was_built


def test_batches_of_a_microbatch_model_are_one_result_at_its_own_end() -> None:
    results = Results({})
    told = [
        results.add(one)
        for one in (
            started("batched"),
            started("batched"),
            finished("batched"),
            started("batched"),
            finished("batched", "error"),
            finished("batched", "partial success"),
        )
    ]

    assert [result.status if result else None for result in told] == [None] * 5 + ["partial success"]
    assert results.running == {}


def in_thread(thread: str, one: dict[str, Any]) -> dict[str, Any]:
    one["info"]["thread"] = thread
    return one


def batch(day: int, status: str) -> dict[str, Any]:
    described = f"batch 2026-01-0{day} of main.batched"
    return event("LogBatchResult", "batched", "model", description=described, status=status)


def test_a_microbatch_model_tells_which_batches_failed_and_why() -> None:
    def raised(exc: str) -> dict[str, Any]:
        return event("GenericExceptionOnRun", "batched", "model", exc=f"Exception on worker thread. {exc}")

    results = Results({})
    for thread, one in (
        *(("main", started("batched")), ("t1", started("batched")), ("t2", started("batched"))),
        ("t1", raised("Runtime Error\n  no such day")),
        *(("t2", batch(2, "OK")), ("t2", finished("batched"))),
        *(("t1", batch(1, "error")), ("t1", finished("batched", "error", message="ERROR"))),
        *(("t2", started("batched")), ("t2", batch(3, "error"))),
        ("t2", finished("batched", "error", message="Compilation Error in model batched\n  no macro")),
        *(("main", started("batched")), ("main", batch(4, "skipped")), ("main", finished("batched", "skipped"))),
        ("main", finished("batched", "partial success", message="PARTIAL SUCCESS (1/4)")),
    ):
        results.add(in_thread(thread, one))

    assert results.finished["model.shop.batched"].message == (
        "PARTIAL SUCCESS (1/4)\n"
        "batch 2026-01-01 of main.batched: Runtime Error\n  no such day\n"
        "batch 2026-01-03 of main.batched: Compilation Error in model batched\n  no macro\n"
        "1 batches skipped because of that"
    )


def test_skipped_nodes_name_the_failure_behind_them_through_others_and_through_tests() -> None:
    parents = {
        "model.shop.b": ["model.shop.a"],
        "model.shop.c": ["model.shop.b"],
        "test.shop.t": ["model.shop.x"],
        "model.shop.y": ["model.shop.x"],
    }
    results = Results(parents, expected=6)
    for one in (
        *(finished("a", "error"), finished("b", "skipped"), finished("c", "skipped")),
        *(finished("x"), finished("t", "fail", "test"), finished("y", "skipped")),
    ):
        results.add(one)

    assert causes(results) == {"b": ["a"], "c": ["a"], "y": ["t"]}
    assert results.summary() == "2 failed, 3 skipped because of them, 1 succeeded"
    assert results.line(results.finished["model.shop.c"]) == "6/6 skipped model c, because of a"
    assert results.line(results.finished["model.shop.x"]) == "6/6 success model x, 0.50 s"


def causes(results: Results) -> dict[str, list[str]]:
    return {result.name: [failed.name for failed in results.causes(result)] for result in results.skipped}


def test_a_skipped_node_names_no_failure_beside_it() -> None:
    parents = {
        "model.shop.broken": ["model.shop.a"],
        "model.shop.tested": ["model.shop.a"],
        "test.shop.on_tested": ["model.shop.tested"],
        "test.shop.on_both": ["model.shop.a", "model.shop.broken"],
        "test.shop.on_a_and_aside": ["model.shop.a", "model.shop.aside"],
        "test.shop.on_nothing": [],
        "model.shop.below": ["model.shop.tested"],
        "test.shop.on_below": ["model.shop.below"],
    }
    results = Results(parents)
    for one in (
        *(finished("a"), finished("broken", "error"), finished("tested"), finished("aside")),
        *(finished("on_tested", "fail", "test"), finished("on_a_and_aside", "fail", "test")),
        *(finished("on_nothing", "fail", "test"), finished("below", "skipped")),
        *(finished("on_below", "skipped", "test"), finished("on_both", "skipped", "test")),
    ):
        results.add(one)

    assert causes(results) == {"below": ["on_tested"], "on_below": ["on_tested"], "on_both": ["broken"]}


def test_a_model_skipped_by_its_own_unit_test_names_it_as_do_those_that_read_the_model() -> None:
    parents = {
        "unit_test.shop.sums": ["model.shop.totals"],
        "model.shop.totals": ["model.shop.a"],
        "test.shop.on_totals": ["model.shop.totals"],
        "model.shop.report": ["model.shop.totals"],
        "model.shop.beside": ["model.shop.a"],
    }
    results = Results(parents)
    for one in (
        *(finished("a"), finished("sums", "fail", "unit_test"), finished("totals", "skipped")),
        *(finished("on_totals", "skipped", "test"), finished("report", "skipped"), finished("beside", "skipped")),
    ):
        results.add(one)

    assert causes(results) == {"totals": ["sums"], "on_totals": ["sums"], "report": ["sums"], "beside": []}


class CountedReads(list[str]):
    """What a node reads; counts how often somebody goes through it."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        CountedReads.walks += 1
        return super().__iter__()


def test_the_causes_of_thousands_of_skipped_nodes_are_found_in_one_walk_through_the_graph() -> None:
    models = [f"model.shop.m{number}" for number in range(2_000)]
    parents = {unique_id: CountedReads([before]) for before, unique_id in pairwise(models)}
    parents |= {f"test.shop.t{number}": CountedReads([unique_id]) for number, unique_id in enumerate(models)}
    results = Results(parents)
    CountedReads.walks = 0
    results.add(finished("m0"))
    results.add(finished("t0", "fail", "test"))
    results.add(finished("m1", "error"))
    for number in range(2, len(models)):
        results.add(finished(f"m{number}", "skipped"))
        results.add(finished(f"t{number}", "skipped", "test"))

    found = causes(results)

    assert found == {f"{kind}{number}": ["t0", "m1"] for number in range(2, len(models)) for kind in "mt"}
    assert causes(results) == found
    assert CountedReads.walks < 3 * len(parents)


def test_the_summary_of_one_failure_without_skips() -> None:
    results = Results({})
    results.add(finished("a", "error"))

    assert results.summary() == "1 failed, 0 succeeded"


def test_what_dbt_does_not_count_has_no_number() -> None:
    results = Results({}, expected=2)
    ephemeral = finished("amounts")
    ephemeral["data"]["node_info"]["materialized"] = "ephemeral"

    lines = []
    for one in (finished("orders"), ephemeral, finished("report", "no-op", "exposure"), finished("stores")):
        result = results.add(one)
        assert result is not None
        lines.append(results.line(result))

    assert lines == [
        "1/2 success model orders, 0.50 s",
        "success model amounts, 0.50 s",
        "no-op exposure report, 0.50 s",
        "2/2 success model stores, 0.50 s",
    ]
