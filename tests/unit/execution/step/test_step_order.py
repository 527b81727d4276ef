"""Steps of a run that emit the start and the end of the product's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.execution.step.product_lineage import RunSteps

if TYPE_CHECKING:
    from floe_orchestrator_dagster.lineage.events.run import State

# first → (left, right) → last
DIAMOND: dict[str, frozenset[str]] = {
    "first": frozenset(),
    "left": frozenset({"first"}),
    "right": frozenset({"first"}),
    "last": frozenset({"first", "left", "right"}),
}


def test_the_step_that_started_first_tells_the_start() -> None:
    steps = RunSteps(DIAMOND, started=["right", "left"], ended={})

    assert steps.is_first("right")
    assert not steps.is_first("left")
    assert RunSteps(DIAMOND, started=[], ended={}).is_first("left")


@pytest.mark.parametrize(
    ("started", "ended", "step", "state", "emitted"),
    [
        ("first", {}, "first", "COMPLETE", None),
        ("first", {}, "first", "FAIL", "FAIL"),  # what waits for it never comes
        ("first left right", {"first": True}, "left", "COMPLETE", None),
        ("first left right", {"first": True, "right": True}, "left", "COMPLETE", None),  # the last is to come
        ("first left right", {"first": True}, "left", "FAIL", None),  # the other still runs
        ("first left right", {"first": True, "left": False}, "right", "COMPLETE", "FAIL"),
        ("first left right", {"first": True, "left": False}, "right", "FAIL", "FAIL"),
        ("first left right last", {"first": True, "left": True, "right": True}, "last", "COMPLETE", "COMPLETE"),
        ("first left right", {"first": True}, "left", "ABORT", None),
        ("first left right", {"first": True, "right": True}, "left", "ABORT", "ABORT"),  # the last never starts
    ],
)
def test_the_end_comes_with_the_step_after_which_no_other_comes(
    started: str, ended: dict[str, bool], step: str, state: State, emitted: State | None
) -> None:
    assert RunSteps(DIAMOND, started.split(), ended).end_with(step, state) == emitted


def test_steps_that_a_resumed_run_leaves_out_are_not_waited_for() -> None:
    steps = RunSteps({"first": frozenset(), "left": frozenset({"first"})}, started=["left"], ended={"first": True})

    assert steps.end_with("left", "COMPLETE") == "COMPLETE"


def test_of_two_steps_that_end_at_the_same_time_the_one_with_the_last_message_emits_the_end() -> None:
    ended = {"first": True, "right": True, "left": False}
    upstream = {step: DIAMOND[step] for step in ended}
    steps = RunSteps(upstream, ["first", "left", "right"], ended, marked=["first", "right", "left"])

    assert steps.end_with("right", "COMPLETE") is None
    assert steps.end_with("left", "FAIL") == "FAIL"
