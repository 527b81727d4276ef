"""Products on Kubernetes: runs in pods, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.release import running_release, write_product
from e2e.shop import ended, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.release import Release

LARGE = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2000m", "memory": "2Gi"}}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Deploy ``orders``, whose steps are processes of the run's pod, and ``returns``, each of whose steps has a pod."""
    directory = tmp_path_factory.mktemp("kubernetes")
    large = {"run_resources": {"size": "large"}}
    artifacts = {
        "orders": write_product(directory / "orders", "orders", ["postgres"] * 3, large),
        "returns": write_product(
            directory / "returns", "returns", ["postgres", "reporting", "reporting"], {**large, "executor": "k8s"}
        ),
    }
    with running_release(directory, artifacts) as running:
        yield running


@pytest.mark.parametrize(("product", "steps"), [("orders", 0), ("returns", 2)])
def test_products_job_runs_in_pods(release: Release, product: str, steps: int) -> None:
    run_id = release.launch(product)

    assert ended(release.dev, run_id) == "SUCCESS", release.dev.log.read_text(errors="replace")
    assert release.materialized(run_id) == ["first", "second", "third"]
    assert release.warehouse(f"table {product}.third") == "1"
    [run] = release.kubernetes.of_run(run_id, "run_worker")
    workers = release.kubernetes.of_run(run_id, "step_worker")
    assert len(workers) == steps
    assert [job.pod.phase for job in (run, *workers)] == ["Succeeded"] * (1 + steps)
    assert [job.pod.container["resources"] for job in (run, *workers)] == [LARGE] * (1 + steps)


@pytest.mark.parametrize("product", ["orders", "returns"])
def test_terminate_ends_the_query(release: Release, product: str) -> None:
    release.slow_down(600)
    try:
        run_id = release.launch(product)
        eventually(release.dev, lambda: release.sleeping() == 1)

        release.terminate(run_id)

        # It takes two seconds.
        eventually(release.dev, lambda: release.sleeping() == 0, seconds=10)
    finally:
        release.slow_down(0)
    assert ended(release.dev, run_id) == "CANCELED"
    jobs = [*release.kubernetes.of_run(run_id, "run_worker"), *release.kubernetes.of_run(run_id, "step_worker")]
    eventually(release.dev, lambda: not any(job.pod.phase == "Running" for job in jobs))
    assert release.materialized(run_id) == ["first"]
