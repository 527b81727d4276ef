"""Serialization of events, equal to that of openlineage's client."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest
from openlineage.client import event_v2
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    parent_run,
    schema_dataset,
    tags_run,
)
from openlineage.client.serde import Serde

from floe_orchestrator_dagster.lineage.delivery.json_line import as_json_line
from lineage_backend import RUN_ID, event

_SCHEMA = schema_dataset.SchemaDatasetFacet([schema_dataset.SchemaDatasetFacetFields("id", "INTEGER", "Id.", 1)])
_LINEAGE = column_lineage_dataset.ColumnLineageDatasetFacet(
    {"id": column_lineage_dataset.Fields([column_lineage_dataset.InputField("ns", "raw", "id", [])], "", "")}
)
_ASSERTIONS = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
    [data_quality_assertions_dataset.Assertion("not_null", success=True, column=None)]
)


class _Unknown:
    """Nothing that JSON or openlineage knows."""


@pytest.mark.parametrize(
    "facets",
    [
        {},
        {"tags": tags_run.TagsRunFacet([tags_run.TagsRunFacetFields("a", "ü\n\u2028\x00")])},
        {"parent": parent_run.ParentRunFacet(parent_run.Run(RUN_ID), parent_run.Job("ns", "job"))},
        {"parent": _SCHEMA.with_additional_properties(more=None, other=_ASSERTIONS)},
        {"plain": {"number": 1.5, "none": None, "deep": [{"none": None}, None, {}]}},
        {"text that looks so": {"a": ':null, "[{}'}},
        {"odd": {"state": event_v2.RunState.FAIL, "id": uuid.UUID(RUN_ID), "large": 2**70}},
        {"numbers": {7: "seven"}},
        {"when": {"at": datetime(2026, 3, 1, 6, tzinfo=timezone.utc)}},
        {"unknown": {"value": _Unknown()}},
    ],
)
def test_line_is_the_same_as_the_clients(facets: dict[str, Any]) -> None:
    start = event("a", "START", **facets)
    start.inputs = [event_v2.InputDataset("ns", "raw", {"dataQualityAssertions": _ASSERTIONS}, facets={"s": _SCHEMA})]
    start.outputs = [event_v2.OutputDataset("ns", "a", facets={"schema": _SCHEMA, "columnLineage": _LINEAGE})]

    line = as_json_line(start)

    assert json.loads(line) == json.loads(Serde.to_json(start))
    assert b"\n" not in line


def test_values_that_backends_cannot_parse_are_replaced() -> None:
    """Python writes these, and reads them too; JSON has neither."""
    odd = event("a", "START", odd={"half a character": "a\ud800b", "emoji": "\U0001f600", "number": float("nan")})
    odd.run.facets["more"] = {"unknown": _Unknown()}  # type: ignore[index, assignment]

    line = as_json_line(odd)

    assert as_json_line(line) == line
    assert json.loads(line)["run"]["facets"]["odd"] == {
        "half a character": "a?b",
        "emoji": "\U0001f600",
        "number": None,
    }


def test_json_is_written_on_one_line() -> None:
    assert as_json_line(b'{"a":\n  [1,\n2]}\n') == b'{"a":[1,2]}'
