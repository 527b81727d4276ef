"""What holds for the steps of a run: retries, pool, resources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from floe_orchestrator_dagster.config.section import Quantity, Section, Word


class RetriesConfig(Section):
    """How often a failed step is tried again (https://docs.dagster.io/api/dagster/ops#dagster.RetryPolicy)."""

    max_retries: int = Field(ge=0, le=100)
    """Tries after the first."""
    delay_seconds: float = Field(default=0, ge=0)
    """Wait before a try."""
    backoff: Literal["linear", "exponential"] | None = None
    """How the wait grows; it stays when left out."""
    jitter: Literal["full", "plus_minus"] | None = None
    """How the wait is spread; not at all when left out."""


class ConcurrencyConfig(Section):
    """The pool that all dbt steps of the product take a slot of."""

    pool: Word
    """Name of the pool (https://docs.dagster.io/guides/operate/managing-concurrency)."""
    limit: int | None = Field(default=None, ge=1)
    """Slots it should have. Pools live in the Dagster instance: ``floe-dagster plan`` prints the command."""


class PodResources(Section):
    """What a pod asks for on Kubernetes; single values win over the size's."""

    size: Literal["small", "medium", "large"] | None = None
    """Preset of CPU and memory."""
    cpu_request: Quantity | None = None
    """Such as ``500m``."""
    cpu_limit: Quantity | None = None
    """Such as ``2``."""
    memory_request: Quantity | None = None
    """Such as ``512Mi``."""
    memory_limit: Quantity | None = None
    """Such as ``2Gi``."""
