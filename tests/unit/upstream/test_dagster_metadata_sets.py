"""Metadata sets: the same as Dagster's, with the fields of each class read once."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Optional

import dagster as dg
import pytest
from dagster._core.definitions.metadata.metadata_set import NamespacedMetadataSet, TableMetadataSet

from floe_orchestrator_dagster.upstream.dagster_metadata_sets import find_problem, replace_metadata_sets
from processes import run_python

_MODULE: Any = import_module("dagster._core.definitions.metadata.metadata_set")
_OFF = """
from dagster._core.definitions.metadata import metadata_set
from floe_orchestrator_dagster.upstream.dagster_metadata_sets import replace_metadata_sets
own = metadata_set.model_fields, metadata_set.NamespacedMetadataSet.__init__
replace_metadata_sets()
print(own == (metadata_set.model_fields, metadata_set.NamespacedMetadataSet.__init__))
"""
_SCHEMA = dg.TableSchema([dg.TableColumn("id", "int")])
METADATA: tuple[dict[str, Any], ...] = (
    {},
    {"dagster/table_name": "a.b"},
    {"dagster/relation_identifier": "a.b", "other": 1, "dagster/code_references": None},
    {"dagster/table_name": dg.MetadataValue.text("a.b"), "dagster/row_count": dg.MetadataValue.int(3)},
    {"dagster/column_schema": _SCHEMA, "dagster/storage_kind": "duckdb", "dagster/partition_row_count": 1},
)


class Odd(NamespacedMetadataSet):
    """A class whose annotation Dagster refuses."""

    size: Optional[complex] = None  # noqa: UP045  # Dagster 1.10 does not read the other form

    @classmethod
    def namespace(cls) -> str:
        """Return the namespace."""
        return "odd"


@pytest.fixture(autouse=True)
def dagsters_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use Dagster's own functions until a test replaces them."""
    for place, name in ((_MODULE, "model_fields"), (NamespacedMetadataSet, "__init__")):
        own = getattr(place, name)
        monkeypatch.setattr(place, name, getattr(own, "__wrapped__", own))


@pytest.mark.parametrize("metadata", METADATA, ids=str)
def test_sets_are_those_of_dagster(metadata: dict[str, Any]) -> None:
    own = TableMetadataSet.extract(metadata)

    replace_metadata_sets()

    for _ in range(2):
        found = TableMetadataSet.extract(metadata)
        assert found == own
        assert dict(found) == dict(own)


def test_fields_of_a_class_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[type] = []
    own = _MODULE.model_fields

    def model_fields(kind: type) -> object:
        read.append(kind)
        return own(kind)

    monkeypatch.setattr(_MODULE, "model_fields", model_fields)
    replace_metadata_sets()

    for _ in range(5):
        TableMetadataSet.extract({"dagster/table_name": "a", "dagster/row_count": 1})

    assert read == [TableMetadataSet]


def test_invalid_values_and_annotations_are_refused_with_dagsters_messages() -> None:
    def messages() -> list[str]:
        found = []
        for make in (lambda: TableMetadataSet(row_count="many"), Odd, Odd):  # type: ignore[arg-type]  # on purpose
            with pytest.raises(Exception, match=r"row_count|size") as caught:
                make()
            found.append(str(caught.value))
        return found

    own = messages()
    replace_metadata_sets()

    assert messages() == own


def test_another_dagster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_problem() is None
    with monkeypatch.context() as patched:
        patched.setattr(NamespacedMetadataSet, "__init__", lambda self, **values: self.validate(values))
        assert find_problem() == "the constructor of NamespacedMetadataSet has changed"
    monkeypatch.delattr(_MODULE, "model_fields")
    assert find_problem() == f"{_MODULE.__name__} has no NamespacedMetadataSet or no model_fields"


def test_patches_that_are_off_replace_nothing() -> None:
    assert run_python("-c", _OFF, FLOE_UPSTREAM_PATCHES="off").stdout == "True\n"
    assert run_python("-c", _OFF).stdout == "False\n"
