"""How dbt is run."""

from __future__ import annotations

from pydantic import Field

from floe_orchestrator_dagster.config.section import Section


class DbtConfig(Section):
    """How dbt is run by the product's steps."""

    timeout_seconds: int | None = Field(default=None, ge=1)
    """How long one dbt invocation may take before it is ended; no limit when left out."""
    columns: bool = True
    """Whether the names and types of a table's columns are asked for once it is built, and shown on its asset."""
    keep_targets: int = Field(default=3, ge=1)
    """How many target directories of invocations that succeeded are kept."""
    keep_failed_targets: int = Field(default=20, ge=1)
    """How many target directories of invocations that failed are kept."""
    enable_duplicate_source_asset_keys: bool = False
    """Whether several sources may have one asset key, as dagster-dbt's setting of that name."""
    attach_artifacts: bool = False
    """Whether each invocation's artifacts are kept with the run, as an archive in the Dagster instance's storage."""
