"""Builds of pull requests that are refused before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster import PullRequestError
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.pull_request.request import PullRequest
from unit.dbt_shop import write_dbt_shop

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "name", ["DBT_EMPTY", "DBT_ENGINE_EMPTY", "DBT_SAMPLE", "DBT_FULL_REFRESH", "DBT_EVENT_TIME_START"]
)
def test_a_variable_with_which_dbt_reads_other_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    request = PullRequest.of(load_product(write_dbt_shop(tmp_path)), [], "pr_1", print)
    monkeypatch.setenv(name, "1")

    with pytest.raises(PullRequestError) as raised:
        request.build(str(tmp_path / "store"), "prod", keep=False)

    [problem] = raised.value.problems
    assert (problem.where, problem.fix) == (name, "Unset it.")
