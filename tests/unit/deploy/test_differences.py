"""Differences between deployed values and new ones, in words and without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from command import invoke
from unit.deploy.deployed import artifacts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unit.samples import Json

PRODUCTION = ("--production", "--postgres-host", "pg.internal", "--compute-logs", "s3://logs")


def printed(paths: Sequence[Path], *options: str | Path) -> str:
    """Return what ``floe-dagster helm`` prints for these products."""
    chosen = [part for path in paths for part in ("--artifacts", path)]
    answer = invoke("helm", *chosen, *PRODUCTION, *options)
    assert answer.exit_code == 0, answer.stderr
    return answer.stdout


def changed(tmp_path: Path, before: str, paths: Sequence[Path], *options: str) -> list[str]:
    deployed = tmp_path / "deployed.yaml"
    deployed.write_text(before, encoding="utf-8")
    return printed(paths, *options, "--diff", deployed).splitlines()


@pytest.mark.parametrize("title", ["", "USER-SUPPLIED VALUES:\n"])
def test_same_values_change_nothing(tmp_path: Path, title: str) -> None:
    path = artifacts(tmp_path)
    before = printed([path], "--image", "shop:1")

    assert changed(tmp_path, title + before, [path], "--image", "shop:1") == ["an upgrade changes nothing"]


def test_products_images_content_and_options_are_described(tmp_path: Path) -> None:
    orders, returns, stock = (artifacts(tmp_path, name) for name in ("orders", "returns", "stock"))
    before = printed([orders, returns], "--image", "shop:1", "--env", "DBT_THREADS=4", "--env-secret", "warehouse")
    artifacts(tmp_path, "orders", {"run_resources": {"size": "large"}, "timeout_seconds": 60})

    lines = changed(
        tmp_path,
        before,
        [orders, stock],
        *("--image", "shop:2", "--env", "DBT_THREADS=8", "--env", "REGION=eu", "--env-secret", "lake"),
        *("--node-selector", "pool=batch", "--toleration", "spot:NoExecute", "--env-configmap", "regions"),
        *("--size", "large"),
    )

    [content] = [line for line in lines if "changes its content" in line]
    assert content.startswith("orders: changes its content (")
    assert content.endswith("), so that its pods are replaced")
    expected = [
        "adds the product stock with the image shop:2",
        "removes the product returns",
        "orders: changes the tag of the image from 1 to 2",
        "orders: changes the variable DBT_THREADS",
        "orders: adds the variable REGION",
        "orders: removes the Secret warehouse",
        "orders: adds the Secret lake",
        "orders: adds the ConfigMap regions",
        "orders: adds nodeSelector.pool: batch",
        "orders: adds tolerations[spot].operator: Exists",
        "orders: changes the limit of memory from 1Gi to 2Gi",
        "orders: adds the limit of memory of runs: 2Gi",
        "changes concurrency.runs.maxConcurrentRuns from 10 to 25",
        "changes dagsterDaemon.resources.limits.memory from 512Mi to 1Gi",
    ]
    assert [line for line in expected if line not in lines] == [], lines


def test_limit_of_a_product_on_duckdb_is_named(tmp_path: Path) -> None:
    orders, returns = artifacts(tmp_path, "orders"), artifacts(tmp_path, "returns")
    before = printed([orders], "--image", "shop:1")

    lines = changed(tmp_path, before, [orders, returns], "--image", "shop:1")

    assert "adds concurrency.runs.tagConcurrencyLimits[dagster/code_location=returns].limit: 1" in lines


def test_values_that_may_be_secrets_are_not_printed(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    values: Json = yaml.safe_load(printed([path], "--image", "shop:1"))
    [location] = values["dagster-user-deployments"]["deployments"]
    location["env"] += [
        {"name": "WAREHOUSE", "value": "postgres://loader:hunter22@pg/db"},
        {"name": "DB_PASSWORD", "value": "hunter22"},
    ]
    values["postgresql"]["postgresqlPassword"] = "hunter22"
    values["dagsterWebserver"]["env"] = {"TOKEN": "hunter22"}

    lines = changed(tmp_path, yaml.safe_dump(values), [path], "--image", "shop:1")

    assert "hunter22" not in "\n".join(lines)
    assert "shop-orders: removes the variable WAREHOUSE" in lines
    assert "shop-orders: removes the variable DB_PASSWORD" in lines
    assert "removes postgresql.postgresqlPassword" in lines


def test_values_of_floes_chart_are_compared_with_its_dagster_chart(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    options = ("--target", "floe-platform", "--otlp-endpoint", "http://collector:4317", "--image")
    before = printed([path], *options, "shop:1")

    assert "shop-orders: changes the tag of the image from 1 to 2" in changed(
        tmp_path, before, [path], *options, "shop:2"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n", "has no Helm values"), ("a: [", "is not YAML"), (b"\xff\xfe\x00", "cannot be read (it is not text)")],
)
def test_file_without_values_is_refused(tmp_path: Path, content: Any, message: str) -> None:  # noqa: ANN401
    deployed = tmp_path / "deployed.yaml"
    deployed.write_bytes(content if isinstance(content, bytes) else content.encode())

    answer = invoke("helm", "--artifacts", artifacts(tmp_path), "--image", "shop:1", "--diff", deployed)

    assert answer.exit_code == 1
    assert message in answer.stderr
