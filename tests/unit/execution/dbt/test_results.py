"""Results of an invocation: causes of skips, and numbers of results."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import FailedHook
from unit.execution.dbt.events import finished, results_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from floe_orchestrator_dagster.execution.dbt.results import Results


def test_skipped_nodes_name_the_failure_behind_them_through_others_and_through_tests() -> None:
    parents = {
        "model.shop.b": ["model.shop.a"],
        "model.shop.c": ["model.shop.b"],
        "test.shop.t": ["model.shop.x"],
        "model.shop.y": ["model.shop.x"],
    }
    results = results_of(
        *(finished("a", "error"), finished("b", "skipped"), finished("c", "skipped")),
        *(finished("x"), finished("t", "fail", "test"), finished("y", "skipped")),
        parents=parents,
        expected=6,
    )

    assert causes(results) == {"b": ["a"], "c": ["a"], "y": ["t"]}
    assert results.summary() == "2 failed, 3 skipped because of them, 1 succeeded"


def test_ephemeral_models_are_not_counted_as_succeeded() -> None:
    ephemeral = finished("inner", "no-op")
    ephemeral["data"]["node_info"]["materialized"] = "ephemeral"

    results = results_of(finished("a"), ephemeral, finished("broken", "error"))

    assert results.summary() == "1 failed, 1 succeeded"


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
    results = results_of(
        *(finished("a"), finished("broken", "error"), finished("tested"), finished("aside")),
        *(finished("on_tested", "fail", "test"), finished("on_a_and_aside", "fail", "test")),
        *(finished("on_nothing", "fail", "test"), finished("below", "skipped")),
        *(finished("on_below", "skipped", "test"), finished("on_both", "skipped", "test")),
        parents=parents,
    )

    assert causes(results) == {"below": ["on_tested"], "on_below": ["on_tested"], "on_both": ["broken"]}


def test_a_model_skipped_by_its_own_unit_test_names_it_as_do_those_that_read_the_model() -> None:
    parents = {
        "unit_test.shop.sums": ["model.shop.totals"],
        "model.shop.totals": ["model.shop.a"],
        "test.shop.on_totals": ["model.shop.totals"],
        "model.shop.report": ["model.shop.totals"],
        "model.shop.beside": ["model.shop.a"],
    }
    results = results_of(
        *(finished("a"), finished("sums", "fail", "unit_test"), finished("totals", "skipped")),
        *(finished("on_totals", "skipped", "test"), finished("report", "skipped"), finished("beside", "skipped")),
        parents=parents,
    )

    assert causes(results) == {"totals": ["sums"], "on_totals": ["sums"], "report": ["sums"], "beside": []}


class CountedReads(list[str]):
    """The parents of a node; counts the iterations over them."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        CountedReads.walks += 1
        return super().__iter__()


def test_the_causes_of_thousands_of_skipped_nodes_are_found_in_one_walk_through_the_graph() -> None:
    models = [f"model.shop.m{number}" for number in range(2_000)]
    parents = {unique_id: CountedReads([before]) for before, unique_id in pairwise(models)}
    parents |= {f"test.shop.t{number}": CountedReads([unique_id]) for number, unique_id in enumerate(models)}
    ended = [finished("m0"), finished("t0", "fail", "test"), finished("m1", "error")]
    for number in range(2, len(models)):
        ended += [finished(f"m{number}", "skipped"), finished(f"t{number}", "skipped", "test")]
    CountedReads.walks = 0
    results = results_of(*ended, parents=parents)

    found = causes(results)

    assert found == {f"{kind}{number}": ["t0", "m1"] for number in range(2, len(models)) for kind in "mt"}
    assert causes(results) == found
    assert CountedReads.walks < 3 * len(parents)


def test_the_summary_of_one_failure_without_skips() -> None:
    results = results_of(finished("a", "error"))

    assert results.summary() == "1 failed, 0 succeeded"


def test_a_failed_model_with_on_error_continue_is_a_cause_only_where_there_is_no_other() -> None:
    parents = {
        "model.shop.both": ["model.shop.optional", "model.shop.broken"],
        "model.shop.below": ["model.shop.both"],
        "model.shop.one": ["model.shop.optional"],
    }
    results = results_of(
        *(finished("optional", "error"), finished("broken", "error"), finished("both", "skipped")),
        *(finished("below", "skipped"), finished("one", "skipped")),
        parents=parents,
        continued={"model.shop.optional"},
    )

    # dbt before 1.12 does not know the setting, and skips `one`.
    assert causes(results) == {"both": ["broken"], "below": ["broken"], "one": ["optional"]}


@pytest.mark.parametrize(
    ("kind", "ended", "summary"),
    [
        ("on-run-start", (), "1 on-run hook failed, 3 skipped because of it, 0 succeeded"),
        ("on-run-start", ("a", "b", "c"), "1 on-run hook failed, 3 succeeded"),
        ("on-run-end", ("a", "b"), "1 on-run hook failed, 2 succeeded"),
    ],
    ids=["dbt 1.12", "dbt before 1.12", "at the end"],
)
def test_nodes_that_an_on_run_start_hook_prevented_are_counted_as_skipped(
    kind: str, ended: Sequence[str], summary: str
) -> None:
    results = results_of(*(finished(name) for name in ended), expected=3)

    results.add(FailedHook(f"shop.{kind}.0", "dbt_project.yml", "Catalog Error"))

    assert results.summary() == summary
