"""The code location of ``FLOE_ARTIFACTS_PATH``, loaded by Dagster's own code as its processes do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.server import LoadedRepositories

if TYPE_CHECKING:
    import dagster as dg

_MODULE = "floe_orchestrator_dagster.definitions"


def serve() -> dg.RepositoryDefinition:
    """Load it as a code server does when it starts."""
    with pytest.MonkeyPatch.context() as patch:
        _as_in_a_new_process(patch)
        served = LoadedRepositories(LoadableTargetOrigin(module_name=_MODULE), None, ["dagster"], None)
    [repository] = served.definitions_by_name.values()
    return repository


def reconstruct() -> dg.RepositoryDefinition:
    """Load it as the process of a run does."""
    with pytest.MonkeyPatch.context() as patch:
        _as_in_a_new_process(patch)
        return ReconstructableRepository(ModuleCodePointer(_MODULE, "defs")).get_definition()


def _as_in_a_new_process(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DefinitionsLoadContext, "_instance", None, raising=False)
    patch.delitem(sys.modules, _MODULE, raising=False)
