"""Engine: the interface between a step and the dbt that it runs.

A step knows this interface only. dbt-core 1.x (:mod:`core_engine`) and dbt v2 (:mod:`v2_engine`) implement it; another
dbt needs a module that starts it and reads what it reports into the same values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from floe_orchestrator_dagster.execution.dbt.core_engine import CoreEngine
from floe_orchestrator_dagster.execution.dbt.v2_engine import V2Engine

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.engine_values import EngineValue
    from floe_orchestrator_dagster.product import DbtConnection


class EngineRun(Protocol):
    """A dbt command that has been started."""

    def values(self, meanwhile: Callable[[], None] = ...) -> Iterator[EngineValue]:
        """Yield what dbt reports, as it comes, until dbt has ended.

        Each node has one ``NodeResult``, after its ``NodeStart`` where dbt reports one.

        Args:
            meanwhile: Is called every half second at least, whether values come or not.
        """
        ...

    def require_end(self, running: Sequence[str]) -> None:
        """Raise a ``DbtBuildError`` when dbt was interrupted or crashed; a run with failed nodes has ended.

        Args:
            running: Names of the nodes that were running last, for the message.
        """
        ...

    @property
    def is_successful(self) -> bool:
        """Whether dbt did everything without a failure."""
        ...

    def stop(self) -> None:
        """Interrupt dbt, if it still runs, for it to cancel its queries; kill it when it does not end."""
        ...


class Engine(Protocol):
    """A dbt, with the project and the profile that it runs with."""

    def start(
        self,
        arguments: Sequence[str],
        target: Path,
        environment: Mapping[str, str] = ...,
        *,
        needs_manifest: bool = ...,
    ) -> AbstractContextManager[EngineRun]:
        """Start dbt; it does not run any more when the context is left.

        Args:
            arguments: dbt's arguments.
            target: Directory for dbt's artifacts.
            environment: Further variables for dbt.
            needs_manifest: Whether ``manifest.json`` has to be there when dbt's first node starts, and not only at its
                end.

        Raises:
            ProfileError: A variable that the profile reads is not set, or the adapter is not installed.
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


def engine_for(dbt: DbtConnection, config: DbtConfig, log: logging.Logger) -> SourceEngine:
    """Return the engine that runs a project.

    Args:
        dbt: The project, and the profile with its target.
        config: How dbt is run.
        log: Says what is run.

    Raises:
        EngineError: There is no such engine, or it cannot be used.
    """
    engine = dbt.engine
    log.info("dbt engine: %s", engine)
    return V2Engine(engine.executable, dbt, config, log) if engine.kind == "v2" else CoreEngine(dbt, config, log)
