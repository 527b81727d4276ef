"""Conversion of any string to a valid Dagster tag value."""

from __future__ import annotations

import dagster as dg

from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value


def test_cut_values_still_differ_and_are_valid_in_dagster() -> None:
    texts = [f"{'retail-' * 9}{name}" for name in ("orders", "stock")]

    values = [tag_value(text) for text in texts]

    assert [len(value) for value in values] == [63, 63]
    assert values[0] != values[1]
    assert values == [tag_value(text) for text in texts]
    for value in values:
        dg.AssetSpec("a", tags={PRODUCT_TAG: value, f"floe/{value}": value})


def test_valid_values_are_unchanged() -> None:
    assert tag_value("a" * 63) == "a" * 63
    assert tag_value("Käse & Brot") == "K_se_Brot"
