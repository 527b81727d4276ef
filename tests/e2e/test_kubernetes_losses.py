"""Lost pods, partitions, lineage and limits of products on Kubernetes; ``make test-kubernetes`` runs these."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import duckdb
import pytest

from e2e.release import (
    running_release,
    write_daily_product,
    write_large_product,
    write_product,
    write_wide_product,
)
from e2e.shop import UNFINISHED, ended, eventually, messages, run_of
from lineage_backend import free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kubernetes import Job
    from e2e.release import Release

pytestmark = pytest.mark.skipif("KUBERNETES" not in os.environ, reason="takes ten minutes; run: make test-kubernetes")
LARGE = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2000m", "memory": "2Gi"}}
BACKEND = free_port()
AREAS = ("finance", "sales", "support", "web")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Deploy products: with steps as processes, a pod for each step, partitions on DuckDB, and pods for parts."""
    directory = tmp_path_factory.mktemp("kubernetes")
    config = {"run_resources": {"size": "large"}, "retries": {"max_retries": 1, "delay_seconds": 1}}
    lineage = f"http://127.0.0.1:{BACKEND}/api/v1/lineage"
    returns = {**config, "executor": "k8s"}
    artifacts = {
        "orders": write_product(directory / "orders", "orders", ["postgres"] * 3, config, lineage),
        "returns": write_product(directory / "returns", "returns", ["postgres", "reporting", "reporting"], returns),
        "daily": write_daily_product(directory / "daily"),
        "wide": write_wide_product(directory / "wide"),
        "large": write_large_product(directory / "large", AREAS, 75),
    }
    with running_release(directory, artifacts, "--state-claim", "state") as running:
        yield running


@pytest.fixture
def slow(release: Release) -> Iterator[None]:
    """Let queries wait until the test has ended."""
    release.slow_down(600)
    yield
    release.slow_down(0)


def _pods(release: Release, run_id: str) -> list[Job]:
    return [*release.kubernetes.of_run(run_id, "run_worker"), *release.kubernetes.of_run(run_id, "step_worker")]


def _launch_until_query(release: Release, product: str) -> str:
    run_id = release.launch(product)
    eventually(release.dev, lambda: release.sleeping() == 1)
    return run_id


@pytest.mark.usefixtures("slow")
def test_lost_pod_of_a_step_is_replaced(release: Release) -> None:
    run_id = _launch_until_query(release, "returns")
    _, lost = release.kubernetes.of_run(run_id, "step_worker")

    lost.pod.signal(signal.SIGKILL)
    release.slow_down(0)
    release.warehouse("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")

    assert ended(release.dev, run_id) == "SUCCESS", messages(release.dev, run_id)
    assert release.materialized(run_id) == ["first", "second", "third"]
    phases = [job.pod.phase for job in release.kubernetes.of_run(run_id, "step_worker")]
    assert phases == ["Succeeded", "Failed", "Succeeded"]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("product", ["orders", "returns"])
def test_run_whose_pod_is_lost_is_retried_and_its_steps_end(release: Release, product: str) -> None:
    run_id = _launch_until_query(release, product)
    [lost] = release.kubernetes.of_run(run_id, "run_worker")

    lost.pod.signal(signal.SIGKILL)
    if product == "orders":  # no process of its pod is left, which could cancel the query
        release.warehouse("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
    eventually(release.dev, lambda: release.sleeping() == 0)
    release.slow_down(0)

    assert ended(release.dev, run_id) == "FAILURE"
    retry = release.retry_of(run_id)
    assert ended(release.dev, retry) == "SUCCESS", messages(release.dev, retry)
    assert sorted(release.materialized(run_id) + release.materialized(retry)) == ["first", "second", "third"]


def test_pod_that_dies_while_it_starts_is_found_within_two_minutes(release: Release) -> None:
    run_id = release.launch("orders", max_retries="0")
    eventually(release.dev, lambda: bool(release.kubernetes.of_run(run_id, "run_worker")))
    [job] = release.kubernetes.of_run(run_id, "run_worker")
    job.pod.signal(signal.SIGKILL)
    died = time.monotonic()

    assert ended(release.dev, run_id) == "FAILURE"
    assert time.monotonic() - died < 120
    said = messages(release.dev, run_id)
    assert "Run timed out due to taking longer than 90 seconds to start." in said
    assert "Terminated with exit code 137" in said


def test_run_of_the_asset_graph_has_the_resources_of_its_product(release: Release) -> None:
    run_id = release.materialize("orders", "first")

    assert ended(release.dev, run_id) == "SUCCESS"
    [run] = release.kubernetes.of_run(run_id, "run_worker")
    assert run.pod.container["resources"] == LARGE


def test_partitions_on_one_duckdb_file_are_built_one_after_the_other(release: Release) -> None:
    run_ids = [release.launch("daily", partition=f"2026-01-0{day}") for day in (1, 2)]
    backfill = release.backfill("windowed", "2026-01-03", "2026-01-04")

    eventually(release.dev, lambda: run_of(release.dev, run_ids[0])["status"] == "STARTED")
    assert run_of(release.dev, run_ids[1])["status"] == "QUEUED"
    assert [ended(release.dev, run_id) for run_id in run_ids] == ["SUCCESS", "SUCCESS"]
    eventually(release.dev, lambda: release.status_of_backfill(backfill) == "COMPLETED_SUCCESS")
    file = release.kubernetes.directory / "claims" / "state" / "daily" / "daily.duckdb"
    with duckdb.connect(str(file), read_only=True) as connection:
        rows = connection.sql("select first, after_last from windowed order by 1").fetchall()
    assert rows == [
        ("2026-01-01", "2026-01-02"),
        ("2026-01-02", "2026-01-03"),
        ("2026-01-03", "2026-01-05"),
    ]


def test_lineage_of_a_lost_backend_is_kept_on_the_claim_and_sent_later(release: Release) -> None:
    first = release.launch("orders")
    assert ended(release.dev, first) == "SUCCESS"
    spool = release.kubernetes.directory / "claims" / "lineage" / "orders"
    assert any(file.stat().st_size for file in spool.rglob("*") if file.is_file())

    with serving(BACKEND) as backend:
        second = release.launch("orders")
        assert ended(release.dev, second) == "SUCCESS"
        eventually(release.dev, lambda: {first, second} <= _runs_of(backend.events), seconds=120)

    completed = {
        (event["job"]["name"], event["eventType"])
        for event in backend.events
        if first in json.dumps(event["run"]["facets"])
    }
    models = [f"model.orders.{name}" for name in ("first", "second", "third")]
    assert {(name, kind) for name in models for kind in ("START", "COMPLETE")} <= completed


def _runs_of(events: list[dict[str, object]]) -> set[str]:
    tags = [event["run"]["facets"].get("tags", {}).get("tags", []) for event in events]  # type: ignore[index]
    return {tag["value"] for listed in tags for tag in listed if tag["key"] == "dagster_run_id"}


def test_no_run_is_left(release: Release) -> None:
    results = release.dev.graphql("{ runsOrError { ... on Runs { results { status } } } }")["runsOrError"]["results"]

    assert not {run["status"] for run in results} & UNFINISHED


def test_parts_of_a_product_are_built_at_the_same_time_in_pods_of_their_own(release: Release) -> None:
    release.slow_down(600)
    try:
        run_id = release.launch("wide")
        eventually(release.dev, lambda: release.sleeping() == 2)
    finally:
        release.slow_down(0)
    release.warehouse("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
    assert ended(release.dev, run_id) == "FAILURE"
    assert release.materialized(run_id) == ["first"]
    again = release.launch("wide")

    assert ended(release.dev, again) == "SUCCESS", messages(release.dev, again)
    assert release.materialized(again) == ["first", "last", "left", "right"]
    limits = [
        job.pod.container["resources"]["limits"]["memory"] for job in release.kubernetes.of_run(again, "step_worker")
    ]
    assert sorted(limits) == ["2Gi", "512Mi", "512Mi", "512Mi"]


def test_large_product_is_built_by_several_pods_at_a_time_and_nothing_twice(release: Release) -> None:
    # dbt creates a missing schema in each part, which fails on PostgreSQL if two do so at the same time.
    release.warehouse("create schema large")
    run_id = release.launch("large")
    eventually(release.dev, lambda: run_of(release.dev, run_id)["status"] not in UNFINISHED, seconds=1800)

    assert ended(release.dev, run_id) == "SUCCESS", messages(release.dev, run_id)
    assert release.materialized(run_id) == sorted(["report", *(f"{area}_{row}" for area in AREAS for row in range(75))])
    times = release.step_times(run_id)
    assert times.keys() == {f"large_dbt_build_{part}" for part in (*AREAS, "report")}
    pods = release.kubernetes.of_run(run_id, "step_worker")
    assert [job.pod.phase for job in pods] == ["Succeeded"] * len(times)
    report, _ = times.pop("large_dbt_build_report")
    assert report > max(end for _, end in times.values())
    second_start = sorted(start for start, _ in times.values())[1]
    assert second_start < min(end for _, end in times.values()), times
