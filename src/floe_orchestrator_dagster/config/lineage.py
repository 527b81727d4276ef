"""Delivery of lineage events (OpenLineage)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from floe_orchestrator_dagster.config.section import Section, Text

Directory = Annotated[str, Field(pattern=r"^(/|~/)")]


class LineageConfig(Section):
    """How lineage events are named, kept and delivered."""

    enabled: bool = True
    """``false`` sends nothing, whatever backend is configured."""
    strict: bool = False
    """Whether a step fails when the backend has not accepted all its events by its end; a warning otherwise."""
    spool_dir: Directory | None = None
    """Absolute directory (or below ``~/``) that keeps events until the backend has them; each product has its own in
    it. ``$FLOE_STATE_DIR/<product>/lineage`` when left out, else below ``~/.local/state/floe``."""
    spool_max_mb: int = Field(default=256, ge=1)
    """Most that the product's spool may take, in MB."""
    flush_seconds: float = Field(default=5, ge=0, le=60)
    """How long the end of a step waits for events that are not delivered yet."""
    timeout_seconds: float = Field(default=2, gt=0, le=30)
    """How long one request to the backend may take."""
    namespaces: dict[Text, Text] = Field(default_factory=dict)
    """Dataset namespaces to write differently, such as ``postgres://10.0.0.7:5432: postgres://warehouse:5432``."""
