"""The registry of patches: states, the switch, and the same results without them."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from floe_orchestrator_dagster.errors import ConfigError
from floe_orchestrator_dagster.upstream import patches
from processes import run_python

_STATES = """
import json, sys
from floe_orchestrator_dagster.upstream import patches
before = [patches.state(patch).status for patch in patches.PATCHES]
tried = {patch.name: vars(patches.attempt(patch)) for patch in patches.PATCHES}
print(json.dumps([before, tried, "dagster" in sys.modules]))
"""


@pytest.fixture(autouse=True)
def _nothing_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_states", {})


def test_all_patches_fit_the_installed_packages() -> None:
    before, tried, _ = json.loads(run_python("-c", _STATES).stdout)

    assert set(before) == {"not tried yet"}
    fits = {"status": "active", "reason": ""}
    expected = {patch.name: fits for patch in patches.PATCHES}
    if tried["dbt-import"]["status"] == "gave up":  # before dagster-dbt 0.29
        assert tried["dbt-import"]["reason"].endswith("always imports dbt")
        del expected["dbt-import"], tried["dbt-import"]
    assert tried == expected


def test_switched_off_no_guard_is_asked() -> None:
    before, tried, dagster_is_imported = json.loads(run_python("-c", _STATES, FLOE_UPSTREAM_PATCHES="off").stdout)

    assert set(before) == {"off"}
    assert {state["status"] for state in tried.values()} == {"off"}
    assert not dagster_is_imported


@pytest.mark.parametrize(("value", "is_on"), [("", True), ("on", True), (" ON ", True), ("off", False), ("Off", False)])
def test_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch, value: str, *, is_on: bool) -> None:
    monkeypatch.setenv(patches.SWITCH, value)

    assert patches.are_on() is is_on


def test_switch_with_another_value_is_an_error_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patches.SWITCH, "false")

    with pytest.raises(ConfigError) as error:
        patches.are_on()

    assert str(error.value) == (
        "environment: 1 problem\n  FLOE_UPSTREAM_PATCHES: 'false' is neither 'on' nor 'off'\n"
        "    fix: Set FLOE_UPSTREAM_PATCHES=off to use no patches, or unset it."
    )


def test_patch_that_gives_up_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        patches.give_up(patches.EVENT_LOG, "SqliteEventLogStorage has no _connect(shard)")
        patches.give_up(patches.EVENT_LOG, "SqliteEventLogStorage has no _connect(shard)")

    assert not patches.is_active(patches.EVENT_LOG)
    assert caplog.messages == [
        (
            "Patch event-log is not used: SqliteEventLogStorage has no _connect(shard). "
            "Dagster opens the database for each statement, which takes longer."
        )
    ]


def test_patch_whose_module_cannot_import_what_it_replaces_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster._core.storage.event_log", None)

    assert patches.attempt(patches.EVENT_LOG).status == "gave up"
    assert "dagster._core.storage.event_log" in patches.state(patches.EVENT_LOG).reason


def test_page_lists_the_patches_as_the_registry_does() -> None:
    page = (REPOSITORY / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
    rows = [
        f"| `{patch.name}` | {patch.package} {patch.since} | {patch.replaces} | {patch.buys} | {patch.without} |"
        for patch in patches.PATCHES
    ]

    section = page.partition("## Patches\n")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows


def test_each_patch_has_a_module_of_its_own_that_says_what_it_is() -> None:
    modules = [patch.module for patch in patches.PATCHES]

    assert len({*modules}) == len({patch.name for patch in patches.PATCHES}) == len(modules)
    assert all((Path(patches.__file__).parent / f"{module}.py").is_file() for module in modules)
