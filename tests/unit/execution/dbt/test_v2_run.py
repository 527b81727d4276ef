"""End of a process of dbt v2: errors outside of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unit.execution.dbt.scripted_v2 import end, error, process, record, scripted

if TYPE_CHECKING:
    from pathlib import Path

FAILED = record(
    "SpanEnd",
    "node.NodeProcessed",
    {"unique_id": "model.shop.a", "node_outcome": "NODE_OUTCOME_ERROR"},
)


@pytest.mark.parametrize(
    ("status", "records", "messages"),
    [
        (1, [FAILED, end(2)], []),
        (1, [FAILED, error("the connection was lost"), end(2)], ["dbt: the connection was lost"]),
        (
            101,
            [FAILED],
            ["{shop}: dbt ended with exit status 101 before it had completed. Nodes that had not ended: b."],
        ),
    ],
)
def test_errors_outside_of_nodes_are_logged_if_nodes_have_failed_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, records: list[object], messages: list[str]
) -> None:
    dbt = scripted(tmp_path)
    dbt.will_run(process(records, status=status))  # type: ignore[arg-type]

    with dbt.session.run(["build"]) as run:
        list(run.values())
        run.require_end(["b"] if status > 1 else [])

    said = [
        entry.getMessage().partition(" See the step's")[0] for entry in caplog.records if entry.levelname == "ERROR"
    ]
    assert said == [message.format(shop=tmp_path / "shop") for message in messages]
