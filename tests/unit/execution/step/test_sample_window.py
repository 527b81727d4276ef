"""The sample of a run: both forms of dbt, what is refused, and engines and runs that cannot have one."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.execution.step.time_windows import sample_arguments
from floe_orchestrator_dagster.product.engines import DbtEngine

CORE = DbtEngine("core", "python", "1.12.6")
V2 = DbtEngine("v2", "dbt", "2.0.0-alpha.4")


@pytest.mark.parametrize("engine", [CORE, V2], ids=str)
@pytest.mark.parametrize(
    ("sample", "passed_on"),
    [
        ("3 days", "3 days"),
        (" 1  Hour ", "1 hours"),
        ("12 MONTHS", "12 months"),
        ("1 year", "1 years"),
        (
            '{"start": "2025-01-01", "end": "2025-01-02 12:30:00"}',
            '{"start":"2025-01-01 00:00:00","end":"2025-01-02 12:30:00"}',
        ),
        (
            "{start: 2025-01-01, end: 2025-01-02T00:00:00+02:00}",
            '{"start":"2025-01-01 00:00:00","end":"2025-01-01 22:00:00"}',
        ),
        (
            'start: "2025-01-01T00:00:00Z"\nend: "2025-01-02T00:00:00-01:00"',
            '{"start":"2025-01-01 00:00:00","end":"2025-01-02 01:00:00"}',
        ),
    ],
)
def test_a_window_is_passed_to_dbt_in_the_form_that_both_engines_read(
    engine: DbtEngine, sample: str, passed_on: str
) -> None:
    assert sample_arguments(sample, engine, has_event_times=False) == ["--sample", passed_on]


def test_a_run_without_a_sample_has_no_argument() -> None:
    assert sample_arguments(None, CORE, has_event_times=True) == []


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        ("", "'' is not a time window"),
        ("yes", "'yes' is not a time window"),
        ("3", "'3' is not a time window"),
        ("3 weeks", "'3 weeks' is not a time window"),
        ("-1 days", "'-1 days' is not a time window"),
        ("1.5 days", "'1.5 days' is not a time window"),
        ("0 days", "'0 days' is an empty window"),
        ("1 day --full-refresh", "'1 day --full-refresh' is not a time window"),
        ("{", "'{' is not a time window"),
        ("[" * 5000, f"'{'[' * 5000}' is not a time window"),
        ("{start: 2025-13-45, end: 2025-01-01}", "'{start: 2025-13-45, end: 2025-01-01}' is not a time window"),
        ("{start: 2025-01-01}", "'{start: 2025-01-01}' must have the keys start and end, and no others"),
        (
            "{start: 2025-01-01, end: 2025-01-02, step: 1}",
            "'{start: 2025-01-01, end: 2025-01-02, step: 1}' must have the keys start and end, and no others",
        ),
        ("{start: 1, end: 2025-01-02}", "start 1 is not a date or time"),
        ('{start: 2025-01-01, end: "tomorrow"}', "end 'tomorrow' is not a date or time"),
        (
            '{start: "0001-01-01T00:00:00+14:00", end: 2025-01-02}',
            "start '0001-01-01T00:00:00+14:00' is not a date or time",
        ),
        ("{start: 2025-01-02, end: 2025-01-02}", "start 2025-01-02 is not before end 2025-01-02"),
    ],
)
def test_a_window_that_is_not_valid_is_refused(sample: str, problem: str) -> None:
    with pytest.raises(DbtSetupError) as caught:
        sample_arguments(sample, CORE, has_event_times=False)

    assert str(caught.value).startswith(f"run configuration, sample: {problem}. ")


def test_a_dbt_core_without_samples_is_named() -> None:
    assert sample_arguments("3 days", DbtEngine("core", "python", "1.10.0"), has_event_times=False)

    with pytest.raises(DbtSetupError) as caught:
        sample_arguments("3 days", DbtEngine("core", "python", "1.9.8"), has_event_times=False)

    assert str(caught.value) == (
        "run configuration, sample: dbt-core 1.9.8 has no samples. Leave it out, or install dbt-core 1.10 or newer."
    )


def test_a_sample_does_not_replace_the_partition_of_the_run() -> None:
    with pytest.raises(DbtSetupError) as caught:
        sample_arguments("3 days", CORE, has_event_times=True)

    assert str(caught.value) == (
        "run configuration, sample: dbt would build the sample instead of the run's partition. "
        "Leave it out, or launch the run for assets without time partitions."
    )
