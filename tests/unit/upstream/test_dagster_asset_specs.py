"""Changes of asset specs: the same specs as Dagster's, without a check of the attributes that stay."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.upstream.dagster_asset_specs import find_problem, replace_spec_changes
from processes import run_python

_OFF = """
import dagster as dg
from floe_orchestrator_dagster.upstream.dagster_asset_specs import replace_spec_changes
own = dg.AssetSpec.merge_attributes, dg.AssetSpec.replace_attributes
replace_spec_changes()
print(own == (dg.AssetSpec.merge_attributes, dg.AssetSpec.replace_attributes))
"""
_METHODS = ("merge_attributes", "replace_attributes")
MERGES: tuple[dict[str, Any], ...] = (
    {"metadata": {}},
    {"metadata": {"a": 2, "b": dg.MetadataValue.md("*x*")}},
    {"metadata": {"a": 2}, "tags": {"c": "d"}},
    {"deps": ["up"], "owners": ["team:data"], "kinds": {"dbt"}},
    {},
)
REPLACEMENTS: tuple[dict[str, Any], ...] = (
    {"automation_condition": None},
    {"automation_condition": dg.AutomationCondition.eager()},
    {"automation_condition": None, "tags": {"c": "d"}},
    {"key": "other"},
    {},
)


@pytest.fixture(autouse=True)
def dagsters_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use Dagster's own methods until a test replaces them."""
    for name in _METHODS:
        own = getattr(dg.AssetSpec, name)
        monkeypatch.setattr(dg.AssetSpec, name, getattr(own, "__wrapped__", own))


def _spec() -> dg.AssetSpec:
    return dg.AssetSpec(
        "orders",
        deps=["raw"],
        description="d",
        metadata={"a": 1},
        group_name="g",
        code_version="1",
        automation_condition=dg.AutomationCondition.on_cron("0 6 * * *"),
        owners=["a@example.com"],
        tags={"x": "y"},
        kinds={"gold"},
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01"),
        freshness_policy=None,
    )


@pytest.mark.parametrize(
    ("method", "attributes"),
    [*(("merge_attributes", each) for each in MERGES), *(("replace_attributes", each) for each in REPLACEMENTS)],
    ids=str,
)
def test_specs_are_those_of_dagster(method: str, attributes: dict[str, Any]) -> None:
    own = getattr(_spec(), method)(**attributes)

    replace_spec_changes()
    found = getattr(_spec(), method)(**attributes)

    assert found == own
    assert type(found) is dg.AssetSpec


def test_only_the_metadata_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_spec_changes()
    spec, checked = _spec(), []
    monkeypatch.setattr(dg.AssetSpec, "dagster_internal_init", lambda **attributes: checked.append(attributes))

    changed = spec.merge_attributes(metadata={"b": 2}).replace_attributes(automation_condition=None)

    assert checked == []
    assert (changed.metadata, changed.automation_condition) == ({"a": 1, "b": 2}, None)


def test_invalid_metadata_is_refused_with_dagsters_message() -> None:
    def message() -> str:
        with pytest.raises(Exception, match="Key in Mapping") as caught:
            _spec().merge_attributes(metadata={1: "a"})  # type: ignore[dict-item]  # that is the point
        return str(caught.value)

    own = message()
    replace_spec_changes()

    assert message() == own


def test_another_dagster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_problem() is None
    with monkeypatch.context() as patched:
        patched.setattr(dg.AssetSpec, "merge_attributes", lambda self, metadata: (self, metadata))
        assert find_problem() == "AssetSpec.merge_attributes has no attribute metadata"
    with monkeypatch.context() as patched:
        patched.setattr(dg.AssetSpec, "_replace", lambda self, **_: self.replace_attributes(description="other"))
        assert find_problem() == "AssetSpec._replace changes other attributes"
    monkeypatch.setattr(dg.AssetSpec, "replace_attributes", lambda self, **attributes: (self, attributes))
    assert find_problem() == "AssetSpec.replace_attributes has no attribute automation_condition"


def test_patches_that_are_off_replace_nothing() -> None:
    assert run_python("-c", _OFF, FLOE_UPSTREAM_PATCHES="off").stdout == "True\n"
    assert run_python("-c", _OFF).stdout == "False\n"
