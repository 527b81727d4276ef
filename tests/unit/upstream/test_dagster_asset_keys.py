"""Asset definitions that keep their sets of keys: equal to Dagster's, with fewer calls.

Annotations are evaluated in this module: Dagster wants the context's type itself, not its name.
"""

import cProfile
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.upstream.dagster_asset_keys import (
    RememberingAssetsDefinition,
    remember_output_keys,
    with_keys_kept,
)


def _assets(count: int, *, remember: bool) -> dg.AssetsDefinition:
    names = [f"asset_{number:03}" for number in range(count)]

    @dg.multi_asset(
        specs=[dg.AssetSpec(name, skippable=True) for name in names],
        check_specs=[dg.AssetCheckSpec("fine", asset=name) for name in names],
        can_subset=True,
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        if remember:
            remember_output_keys(context)
        for key in sorted(context.selected_asset_keys):
            yield dg.MaterializeResult(asset_key=key)
        for check in sorted(context.selected_asset_check_keys):
            yield dg.AssetCheckResult(passed=True, asset_key=check.asset_key, check_name=check.name)

    return with_keys_kept(build) if remember else build


def _outcome(assets: dg.AssetsDefinition, **selected: Any) -> tuple[list[str], list[str]]:  # noqa: ANN401  # arguments
    result = dg.materialize([assets], **selected)
    built = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key]
    return built, sorted(check.asset_check_key.to_user_string() for check in result.get_asset_check_evaluations())


def test_definition_equals_the_one_that_it_was_created_from() -> None:
    plain = _assets(5, remember=False)
    kept = RememberingAssetsDefinition.of(plain)

    assert kept.asset_and_check_keys == plain.asset_and_check_keys
    assert kept.asset_and_check_keys is kept.asset_and_check_keys
    assert (kept.keys, kept.check_keys, list(kept.specs)) == (plain.keys, plain.check_keys, list(plain.specs))


def test_subset_keeps_its_own_keys() -> None:
    plain = _assets(5, remember=False)
    kept = RememberingAssetsDefinition.of(plain)
    assert len(kept.asset_and_check_keys) == 10

    wanted = {dg.AssetKey("asset_001"), dg.AssetKey("asset_002")}
    subset, same = kept.subset_for(wanted, None), plain.subset_for(wanted, None)

    assert isinstance(subset, RememberingAssetsDefinition)
    assert subset.asset_and_check_keys == same.asset_and_check_keys
    assert len(subset.asset_and_check_keys) == 4


@pytest.mark.parametrize("selected", [{}, {"selection": ["asset_001", "asset_004"]}])
def test_run_has_the_same_events(selected: dict[str, list[str]]) -> None:
    assert _outcome(_assets(5, remember=True), **selected) == _outcome(_assets(5, remember=False), **selected)


def _key_look_ups(count: int, *, remember: bool) -> int:
    """Count how often Dagster asks which asset an output is, while all assets are materialized."""
    definition = _assets(count, remember=remember)
    profile = cProfile.Profile()
    profile.enable()
    dg.materialize([definition])
    profile.disable()
    names = {"get_entity_key_for_node_output", "asset_key_for_output"}
    entries: list[Any] = profile.getstats()
    return sum(entry.callcount for entry in entries if getattr(entry.code, "co_name", "") in names)


def test_keys_of_outputs_are_looked_up_once_per_step_not_once_per_output() -> None:
    small, large = (_key_look_ups(count, remember=True) for count in (3, 12))

    assert large / small < 5
    assert _key_look_ups(12, remember=False) / _key_look_ups(3, remember=False) > 6
