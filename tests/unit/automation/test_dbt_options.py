"""Options of dbt for the runs of jobs and schedules: tags of their runs, and refusals at load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_definitions, definitions_from_file
from floe_orchestrator_dagster.errors import ConfigError
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.inspect.validation import examine_product
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.engines import DbtEngine
from unit.dbt_shop import write_dbt_shop
from unit.samples import model, product, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from unit.samples import Json


@pytest.fixture(autouse=True)
def _no_state_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DBT_STATE", "DBT_DEFER_STATE", "DBT_ENGINE_STATE", "DBT_ENGINE_DEFER_STATE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def state(tmp_path: Path) -> str:
    """A directory with another environment's manifest."""
    directory = tmp_path / "production"
    directory.mkdir()
    (directory / "manifest.json").write_text("{}", encoding="utf-8")
    return str(directory)


def _problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        definitions_from_file(path)
    return [str(problem).removeprefix("plugins.orchestrator.config.") for problem in raised.value.problems]


def test_options_are_tags_of_the_runs_and_a_schedule_overrides_its_job(tmp_path: Path, state: str) -> None:
    job = {"name": "sampled", "sample": "3 days", "empty": False, "defer": True, "state": state, "favor_state": True}
    schedules = [
        {"name": "of_job", "cron": "@daily", "job": "sampled", "sample": "30 days", "defer": False},
        {"name": "of_part", "cron": "@daily", "select": "stg", "empty": True},
    ]
    path = write_dbt_shop(tmp_path, {"jobs": [job], "schedules": schedules})

    repository = definitions_from_file(path).get_repository_def()

    def options(tags: object) -> dict[str, str]:
        assert isinstance(tags, dict)
        return {name.removeprefix("floe/dbt_"): value for name, value in tags.items() if name.startswith("floe/dbt_")}

    assert options(dict(repository.get_job("sampled").run_tags)) == {
        "sample": "3 days",
        "empty": "false",
        "defer": "true",
        "state": state,
        "favor_state": "true",
    }
    requests = {}
    for name in ("of_job", "of_part"):
        context = dg.build_schedule_context(repository_def=repository)
        [requests[name]] = repository.get_schedule_def(name).evaluate_tick(context).run_requests or []
    assert options(dict(requests["of_job"].tags)) == {"sample": "30 days", "defer": "false"}
    assert options(dict(requests["of_part"].tags)) == {"empty": "true"}
    assert options(dict(repository.get_job("shop_orders").run_tags)) == {}


_CORRECT = "Correct it in manifest.yaml."
_NO_STATE = f"Set `state` to a directory with the manifest.json of the other environment. {_CORRECT}"
_NO_DEFER = f"is only used with `defer`\n    fix: Set `defer: true`, or remove it. {_CORRECT}"
_COPY = f"Copy the manifest.json of the other environment into it. {_CORRECT}"
_FORMS = (
    "Write a number of hours, days, months or years, such as "
    f'"3 days", or {{"start": "2025-01-01", "end": "2025-02-01"}}. {_CORRECT}'
)


@pytest.mark.parametrize(
    ("job", "schedule", "problems"),
    [
        ({"defer": True}, {}, [f"jobs[0].defer: is set, and no state is known to defer to\n    fix: {_NO_STATE}"]),
        (
            {"state": "STATE"},
            {"favor_state": True},
            [f"jobs[0].state: {_NO_DEFER}", f"schedules[0].favor_state: {_NO_DEFER}"],
        ),
        ({"defer": True, "state": "STATE"}, {"favor_state": True}, []),
        ({"defer": True, "state": "STATE"}, {"defer": False, "state": "gone"}, []),
        ({"defer": True, "state": "STATE"}, {"state": "models"}, []),
        (
            {"sample": "3 weeks"},
            {"sample": "0 days"},
            [
                f"jobs[0].sample: '3 weeks' is not a time window\n    fix: {_FORMS}",
                f"schedules[0].sample: '0 days' is an empty window\n    fix: {_FORMS}",
            ],
        ),
    ],
)
def test_options_that_runs_would_refuse_are_refused_at_load(
    tmp_path: Path, state: str, job: Json, schedule: Json, problems: list[str]
) -> None:
    job = {name: state if value == "STATE" else value for name, value in job.items()}
    schedules = [{"name": "b", "cron": "@daily", "job": "a", **schedule}]
    path = write_dbt_shop(tmp_path, {"jobs": [{"name": "a", **job}], "schedules": schedules})

    if not problems:
        assert definitions_from_file(path)
        return
    expected = [problem.replace("PROJECT", str(tmp_path)) for problem in problems]
    assert _problems(path) == expected
    [error] = examine_product(path, parses=False).errors
    assert isinstance(error, ConfigError)
    assert [str(problem).removeprefix("plugins.orchestrator.config.") for problem in error.problems] == expected


@pytest.mark.parametrize(
    ("of_job", "schedule", "problem"),
    [
        ("STATE", {"state": "models"}, "schedules[0].state: 'PROJECT/models' has no manifest.json"),
        ("gone", {"defer": False}, "jobs[0].state: 'PROJECT/gone' is not a directory"),
    ],
)
def test_a_missing_state_is_a_warning_at_load_and_an_error_of_validate(
    tmp_path: Path, of_job: str, schedule: Json, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_json(tmp_path / "STATE" / "manifest.json", {})
    schedules = [{"name": "b", "cron": "@daily", "job": "a", **schedule}]
    jobs = [{"name": "a", "defer": True, "state": of_job}]
    path = write_dbt_shop(tmp_path, {"jobs": jobs, "schedules": schedules})
    expected = problem.replace("PROJECT", str(tmp_path))

    definitions = definitions_from_file(path)

    assert definitions.get_repository_def().has_job("shop_orders")
    assert [expected in message for message in caplog.messages].count(True) == 1
    [error] = examine_product(path, parses=False).errors
    assert isinstance(error, ConfigError)
    [found] = error.problems
    assert str(found) == f"plugins.orchestrator.config.{expected}\n    fix: {_COPY}"


def test_options_in_a_product_without_a_dbt_project_are_refused() -> None:
    config = {
        "jobs": [{"name": "a", "empty": True, "sample": "3 days"}],
        "schedules": [{"name": "b", "cron": "@daily", "defer": False}],
    }

    with pytest.raises(ConfigError) as raised:
        build_definitions(product(model("a"), config=config))

    what = "cannot be used: product 'shop-orders' has no dbt project here"
    assert [
        (problem.where.removeprefix("plugins.orchestrator.config."), problem.what) for problem in raised.value.problems
    ] == [
        ("jobs[0].empty", what),
        ("jobs[0].sample", what),
        ("schedules[0].defer", what),
    ]


_DAILY: Json = {"type": "daily", "start": "2025-01-01"}


@pytest.mark.parametrize(
    ("jobs", "schedule", "places"),
    [
        ([{"name": "a", "select": "mart", "sample": "3 days"}], {"job": "a", "sample": "2 days"}, []),
        ([{"name": "a", "select": "stg", "sample": "3 days"}], {"job": "a"}, ["jobs[0]"]),
        ([{"name": "a", "select": "stg mart"}], {"job": "a", "sample": "2 days"}, ["schedules[0]"]),
        ([], {"sample": "2 days"}, ["schedules[0]"]),
        ([], {"select": "stg", "sample": "2 days"}, ["schedules[0]"]),
        ([], {"select": "mart", "sample": "2 days"}, []),
    ],
)
def test_a_sample_of_time_partitions_is_refused_at_load(
    tmp_path: Path, jobs: list[Json], schedule: Json, places: list[str]
) -> None:
    schedules = [{"name": "b", "cron": "@daily", **schedule}]
    config = {"partitions": [{**_DAILY, "select": "stg"}], "jobs": jobs, "schedules": schedules}
    path = write_dbt_shop(tmp_path, config)

    if not places:
        assert definitions_from_file(path)
        return
    what = "would replace the time partitions of the assets that it builds"
    fix = f"Remove it, or use it in a job that excludes assets with time partitions. {_CORRECT}"
    assert _problems(path) == [f"{place}.sample: {what}\n    fix: {fix}" for place in places]


def test_a_sample_of_static_partitions_is_accepted(tmp_path: Path) -> None:
    rule = {"type": "static", "values": ["x", "y"], "select": "stg"}
    jobs = [{"name": "a", "select": "stg", "sample": "3 days"}]

    assert definitions_from_file(write_dbt_shop(tmp_path, {"partitions": [rule], "jobs": jobs}))


def test_the_state_can_be_that_of_the_environment(tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_STATE", state)

    assert definitions_from_file(write_dbt_shop(tmp_path, {"jobs": [{"name": "a", "defer": True}]}))


def test_a_sample_needs_a_dbt_that_has_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = DbtEngine("core", "python", "1.9.4")
    monkeypatch.setattr("floe_orchestrator_dagster.product.DbtProject.installed_engine", old)
    path = write_dbt_shop(tmp_path, {"jobs": [{"name": "a", "sample": "3 days"}]})

    fix = "Leave it out, or install dbt-core 1.10 or newer. Correct it in manifest.yaml."
    assert _problems(path) == [f"jobs[0].sample: dbt-core 1.9.4 has no samples\n    fix: {fix}"]


def test_plan_names_the_options(tmp_path: Path) -> None:
    config = {
        "jobs": [{"name": "a", "sample": "3 days", "empty": True}],
        "schedules": [{"name": "b", "cron": "@daily", "job": "a", "empty": False}],
    }
    path = write_dbt_shop(tmp_path, config)

    plan = plan_product(load_product(path), definitions_from_file(path))

    assert {job.name: job.options for job in plan.jobs} == {
        "shop_orders": {},
        "a": {"sample": "3 days", "empty": "true"},
    }
    assert plan.schedules[0].options == {"empty": "false"}
