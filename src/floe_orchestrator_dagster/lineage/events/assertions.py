"""Results of dbt's tests, unit tests and source freshness, as OpenLineage's assertions and test executions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openlineage.client.facet_v2 import data_quality_assertions_dataset, test_run

from floe_orchestrator_dagster.product.manifest import freshness_criteria

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult

_ANY_ROW = "!=0"
_NOT_PARAMETERS = ("model", "column_name")


@dataclass(frozen=True)
class TestEnd:
    """The end of a dbt test, unit test or freshness check.

    Attributes:
        node: The test in dbt's manifest; for source freshness, the source.
        result: The test's result.
    """

    __test__ = False  # pytest must not collect this class

    node: Mapping[str, Any]
    result: NodeResult

    def assertion(self, *, of_column: bool = True) -> data_quality_assertions_dataset.Assertion:
        """Return the assertion for a dataset; without ``of_column``, for the whole table."""
        return data_quality_assertions_dataset.Assertion(
            assertion=self._kind,
            success=self._passed,
            column=self._column if of_column else None,
            severity=self._severity,
            name=str(self.node.get("name") or ""),
            description=str(self.node.get("description") or "") or None,
            expected=self._expected,
            actual=self._actual,
            params=self._parameters or None,
        )

    def test_facet(self) -> test_run.TestRunFacet:
        """Return the facet for the run."""
        status = "skip" if self.result.was_skipped else "pass" if self._passed else "fail"
        execution = test_run.TestExecution(
            name=str(self.node.get("unique_id") or self.node.get("name") or ""),
            status=status,
            severity=self._severity,
            type=self._kind,
            description=str(self.node.get("description") or "") or None,
            expected=self._expected,
            actual=self._actual,
            content=self.result.compiled_code,
            contentType="sql" if self.result.compiled_code else None,
            params=self._parameters or None,
        )
        return test_run.TestRunFacet(tests=[execution])

    @property
    def _passed(self) -> bool:
        return self.result.passed

    @property
    def _kind(self) -> str:
        kinds = {"source": "freshness", "unit_test": "unit_test"}
        metadata = self.node.get("test_metadata") or {}
        return kinds.get(str(self.node.get("resource_type"))) or str(
            metadata.get("name") or self.node.get("name") or ""
        )

    @property
    def _column(self) -> str | None:
        arguments = (self.node.get("test_metadata") or {}).get("kwargs") or {}
        column = arguments.get("column_name") or self.node.get("column_name")
        return str(column).strip('"`[]') if column else None

    @property
    def _severity(self) -> str:
        if self.node.get("resource_type") == "source":
            return "warn" if self.result.status == "warn" else "error"
        return str((self.node.get("config") or {}).get("severity") or "error").lower()

    @property
    def _expected(self) -> str | None:
        """The number of rows that a test may find; for a freshness check, the maximum age."""
        if self.node.get("resource_type") == "source":
            criteria = freshness_criteria(self.node)
            return ", ".join(f"{name} {age}" for name, age in criteria.items()) or None
        if self.result.failed_rows is None:
            return None
        config = self.node.get("config") or {}
        threshold = "".join(str(config.get("warn_if" if self._severity == "warn" else "error_if") or _ANY_ROW).split())
        return "0" if threshold == _ANY_ROW else threshold

    @property
    def _actual(self) -> str | None:
        """The number of rows that a test found; for a freshness check, the age in seconds."""
        if self.result.freshness is not None:
            return f"{self.result.freshness.age_seconds:.15g}"
        return None if self.result.failed_rows is None else str(self.result.failed_rows)

    @property
    def _parameters(self) -> dict[str, Any]:
        arguments = (self.node.get("test_metadata") or {}).get("kwargs") or {}
        return {name: value for name, value in arguments.items() if name not in _NOT_PARAMETERS and value is not None}
