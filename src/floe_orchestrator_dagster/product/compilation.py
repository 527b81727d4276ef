"""Compilation of ``floe.yaml`` and ``manifest.yaml`` with floe-core, in this process."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_core.compilation.errors import CompilationError
    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

MANIFEST_FILE = "manifest.yaml"
ARTIFACTS_FILE = "compiled_artifacts.json"

_FIX = "Correct it and compile again."


def compile_command(artifacts: str = ARTIFACTS_FILE, spec: str = "floe.yaml", manifest: str = MANIFEST_FILE) -> str:
    """Return the command line that compiles a product with floe."""
    return f"floe platform compile --spec {spec} --manifest {manifest} --output {artifacts}"


def compile_product(spec: Path, manifest: Path) -> CompiledArtifacts:
    """Compile a product as ``floe platform compile --no-lineage-emission`` does, without writing a file.

    Raises:
        SpecError: floe's compiler refuses one of the files. The message has the fields that it names.
    """
    # floe-core logs to standard output, which is for the results of commands.
    with redirect_stdout(io.StringIO()):
        from floe_core.compilation.errors import CompilationException
        from floe_core.compilation.stages import compile_pipeline
        from floe_core.plugin_errors import PluginError
        from floe_core.quality_errors import QualityError
        from floe_core.schemas.plugins import PluginWhitelistError, SinkWhitelistError

        try:
            return compile_pipeline(spec, manifest, emit_lineage=False)
        except CompilationException as error:
            origin, problems = str((error.error.context or {}).get("path") or spec), _problems(error.error)
        except OSError as error:
            origin, problems = str(error.filename or spec), [Problem("", f"cannot be read ({error.strerror})", _FIX)]
        except (ValueError, PluginError, QualityError, PluginWhitelistError, SinkWhitelistError) as error:
            origin, problems = str(spec), [Problem("", f"cannot be compiled: {error}", _FIX)]
    raise SpecError(origin, problems)


def _problems(error: CompilationError) -> list[Problem]:
    context: Mapping[str, Any] = error.context or {}
    listed = context.get("all_errors")
    if isinstance(listed, list) and listed:
        return [Problem(entry["field"], _sentence(entry["message"]), _FIX) for entry in listed]
    return [Problem("", f"floe does not compile it: {error.message}", error.suggestion or _FIX)]


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")
