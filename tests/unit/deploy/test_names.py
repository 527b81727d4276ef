"""Valid and distinct Kubernetes names of products."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe_orchestrator_dagster.deploy.names import LONGEST_NAME, check_names_differ, check_object_name, service_name
from floe_orchestrator_dagster.errors import DeployError

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        ("retail-orders", "retail-orders"),
        ("Retail_Orders", "retail-orders"),
        ("shop--a_", "shop-a"),
        ("a" * 42, "a" * 42),
    ],
)
def test_name_is_a_label(product: str, expected: str) -> None:
    assert service_name(product) == expected


def test_long_names_with_the_same_prefix_stay_distinct() -> None:
    names = {service_name("a" * 50 + end) for end in ("x", "y")}

    assert len(names) == 2
    assert all(len(name) == LONGEST_NAME and _LABEL.fullmatch(name) for name in names)


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,127}", fullmatch=True))
def test_name_of_any_product_is_valid_in_every_derived_name(product: str) -> None:
    name = service_name(product)

    assert _LABEL.fullmatch(name)
    assert len(f"init-user-deployment-{name}") <= 63


def test_products_that_would_share_a_service_are_named() -> None:
    with pytest.raises(DeployError) as raised:
        check_names_differ([("shop-a", Path("1.json")), ("shop_A", Path("2.json")), ("other", Path("3.json"))])

    assert str(raised.value) == (
        "--artifacts: 1 problem\n"
        "  2 products get the name 'shop-a': shop-a (1.json), shop_A (2.json)\n"
        "    fix: Name each product once, and give products names that differ in more than case, '-' and '_'."
    )


@pytest.mark.parametrize("name", ["warehouse", "team.warehouse-2", "a"])
def test_valid_names_of_objects_are_unchanged(name: str) -> None:
    assert check_object_name(name, "--env-secret") == name


@pytest.mark.parametrize("name", ["", "Warehouse", "a_b", "-a", "a-", ".a", "a..b", "a b", "a\n", "a" * 254, "päss"])
def test_invalid_names_of_objects_are_refused(name: str) -> None:
    with pytest.raises(DeployError) as raised:
        check_object_name(name, "--env-secret")

    assert str(raised.value).startswith("--env-secret: 1 problem\n  " + f"{name!r} cannot be the name")
