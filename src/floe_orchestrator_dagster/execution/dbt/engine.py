"""Interface between a step and a dbt engine.

Steps use only this interface. dbt-core 1.x (:mod:`core_engine`) and dbt v2 (:mod:`v2_engine`) implement it. Another
engine needs a module that starts it and converts its events to the same values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from floe_orchestrator_dagster.execution.dbt.core_engine import CoreEngine
from floe_orchestrator_dagster.execution.dbt.v2_engine import V2Engine

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.node_result import EngineValue
    from floe_orchestrator_dagster.product import DbtConnection


class EngineRun(Protocol):
    """A started dbt command."""

    def values(self, meanwhile: Callable[[], None] = ...) -> Iterator[EngineValue]:
        """Yield the values that dbt reports, until dbt has ended.

        Each node has one ``NodeResult``, after its ``NodeStart`` if dbt reports the start.

        Args:
            meanwhile: Called before each wait for output, and at least every half second.
        """
        ...

    def require_end(self, running: Sequence[str]) -> None:
        """Check that dbt has completed its command. This includes commands with failed nodes.

        Args:
            running: Names of the nodes that had not ended, for the message.

        Raises:
            DbtBuildError: dbt was interrupted or crashed.
        """
        ...

    @property
    def is_successful(self) -> bool:
        """Whether dbt ended without a failure."""
        ...

    def stop(self) -> None:
        """Interrupt a running dbt, so that it cancels its queries; kill it if it does not end."""
        ...


class Engine(Protocol):
    """A dbt engine with its project and profile."""

    def start(
        self,
        arguments: Sequence[str],
        target: Path,
        environment: Mapping[str, str] = ...,
        *,
        needs_manifest: bool = ...,
    ) -> AbstractContextManager[EngineRun]:
        """Start dbt, and end it with the context.

        Args:
            arguments: dbt's arguments.
            target: Directory for dbt's artifacts.
            environment: Additional environment variables for dbt.
            needs_manifest: Whether dbt must write ``manifest.json`` before the first node, and not only at its end.

        Raises:
            ProfileError: An environment variable of the profile is not set, or the adapter is not installed.
        """
        ...


class SourceEngine(Engine, Protocol):
    """An engine that also checks the freshness of sources."""

    def freshness(
        self, sources: Sequence[str], arguments: Sequence[str], target: Path, *, needs_manifest: bool = ...
    ) -> AbstractContextManager[EngineRun]:
        """Start the check of sources; at its end ``sources.json`` is in the target directory.

        Args:
            sources: dbt's unique ids of the sources.
            arguments: dbt's arguments, which select the sources.
            target: Directory for dbt's artifacts.
            needs_manifest: As for :meth:`start`.

        Raises:
            ProfileError: As :meth:`start`.
        """
        ...

    def answers(self, question: str, tables: Mapping[str, Sequence[str | None]]) -> Iterator[tuple[str, Any, str]]:
        """Run queries of the warehouse through the dbt adapter, without the product's project.

        Args:
            question: Code in Jinja that reads ``table`` and sets ``answer``; see :mod:`questions`.
            tables: Arguments of each query, by an id.

        Yields:
            Id, answer, and an error instead of the answer.

        Raises:
            ProfileError: As :meth:`start`.
        """
        ...


def engine_for(dbt: DbtConnection, config: DbtConfig, log: logging.Logger) -> SourceEngine:
    """Return the engine that runs a project.

    Args:
        dbt: The dbt project and profile.
        config: Settings of dbt's runs.
        log: The run's log.

    Raises:
        EngineError: The configured engine is not installed, or cannot be used.
    """
    engine = dbt.engine
    log.info("dbt engine: %s", engine)
    return V2Engine(engine.executable, dbt, config, log) if engine.kind == "v2" else CoreEngine(dbt, config, log)
