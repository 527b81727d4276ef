"""Retries, pool and resources of a product's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.assets.steps import op_tags, pool, retry_policy, run_tags
from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.config import read_config
from unit.dbt_shop import dbt_shop
from unit.samples import Json, model, product

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product import Product

EVERYTHING: Json = {
    "retries": {"max_retries": 3, "delay_seconds": 1.5, "backoff": "exponential", "jitter": "plus_minus"},
    "concurrency": {"pool": "warehouse", "limit": 1},
    "run_resources": {"size": "small"},
}


def config(**values: object) -> DagsterConfig:
    return read_config(values, "contract")


@pytest.mark.parametrize(
    ("retries", "policy"),
    [
        (None, None),
        ({"max_retries": 0}, dg.RetryPolicy(max_retries=0, delay=0)),
        ({"max_retries": 2}, dg.RetryPolicy(max_retries=2, delay=0)),
        (
            {"max_retries": 1, "delay_seconds": 5, "backoff": "linear", "jitter": "full"},
            dg.RetryPolicy(max_retries=1, delay=5, backoff=dg.Backoff.LINEAR, jitter=dg.Jitter.FULL),
        ),
        (
            EVERYTHING["retries"],
            dg.RetryPolicy(max_retries=3, delay=1.5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS),
        ),
    ],
)
def test_retries_become_a_retry_policy(retries: Json | None, policy: dg.RetryPolicy | None) -> None:
    assert retry_policy(config(**({"retries": retries} if retries else {}))) == policy


def test_nothing_configured_adds_nothing() -> None:
    assert pool(config()) is None
    assert op_tags(config()) == {}
    assert run_tags(config()) == {}


def test_time_limit_is_a_tag_of_runs_and_resources_of_both() -> None:
    both = config(timeout_seconds=60, run_resources={"cpu_limit": "2"})

    resources = {"dagster-k8s/config": {"container_config": {"resources": {"limits": {"cpu": "2"}}}}}
    assert op_tags(both) == resources
    assert run_tags(both) == {"dagster/max_runtime": "60", **resources}


def with_dbt(directory: Path) -> Product:
    return dbt_shop(directory, EVERYTHING)


def without_dbt(_directory: Path) -> Product:
    return product(model("a"), model("b", "a"), config=EVERYTHING)


@pytest.mark.parametrize("shop", [with_dbt, without_dbt])
def test_every_step_of_a_product_has_retries_pool_and_resources(
    tmp_path: Path, shop: Callable[[Path], Product]
) -> None:
    assets = [
        asset for asset in build_definitions(shop(tmp_path)).assets or [] if isinstance(asset, dg.AssetsDefinition)
    ]

    assert assets
    for op in (asset.op for asset in assets):
        assert op.retry_policy == retry_policy(config(**EVERYTHING))
        assert op.pool == "warehouse"
        assert op.tags["dagster-k8s/config"]
