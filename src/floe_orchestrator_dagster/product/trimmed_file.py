"""Cached copy of a trimmed manifest.

The copy is stored beside the manifest, so that only one process parses the whole manifest. It is valid for exactly this
content of the manifest and this version of the package. It is written again when it is outdated or damaged, or when
another user could have written it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.errors import ManifestError
from floe_orchestrator_dagster.product.files import digest_of_file, distrust_reason
from floe_orchestrator_dagster.product.manifest_check import too_deep
from floe_orchestrator_dagster.product.sharing import compact, expand
from floe_orchestrator_dagster.product.trimming import VERSION_OF_TRIMMING

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

TRIMMED_FILE = "floe_manifest.json"
"""Name of the copy, in the directory of the manifest."""

_SCRATCH_PREFIX = ".floe_manifest-"
_ABANDONED_AFTER_SECONDS = 3600
_COPY_PERMISSIONS = 0o755


def read_trimmed(manifest: Path) -> dict[str, Any] | None:
    """Read the trimmed copy of a manifest; None without a valid one."""
    path = manifest.with_name(TRIMMED_FILE)
    try:
        with path.open("rb") as file:
            distrusted = distrust_reason(file.fileno())
            if distrusted is not None:
                logger.warning("%s is not used: %s", path, distrusted)
                return None
            # It is read as a whole, because this package wrote it, and it is smaller than the manifest.
            kept = memoryview(file.read())
        source = digest_of_file(manifest)
    except OSError:
        return None
    seal = _seal(source, kept[_SEAL_LENGTH:])
    if kept[:_SEAL_LENGTH] != seal:
        logger.debug("%s is damaged or does not belong to %s", path, manifest)
        return None
    content: dict[str, Any] = orjson.loads(kept[_SEAL_LENGTH:])
    return expand(content)


def write_trimmed(manifest: Path, source: bytes, content: Mapping[str, Any]) -> None:
    """Write the trimmed copy of a manifest in one step. Without a copy, the next load parses the manifest again.

    Args:
        manifest: The manifest's path.
        source: The manifest's bytes.
        content: The result of :func:`trim`.

    Raises:
        ManifestError: Values are nested too deeply to be written as JSON.
    """
    try:
        body = orjson.dumps(compact(content))
    except TypeError:
        raise ManifestError(str(manifest), [too_deep()]) from None
    try:
        _remove_abandoned(manifest.parent)
        with tempfile.NamedTemporaryFile(dir=manifest.parent, prefix=_SCRATCH_PREFIX, delete=False) as file:
            file.write(_seal(_digest(source), body))
            file.write(body)
        # All readers of the manifest may read the copy; only this user may write it.
        Path(file.name).chmod(manifest.stat().st_mode & _COPY_PERMISSIONS)
        Path(file.name).replace(manifest.with_name(TRIMMED_FILE))
    except OSError as error:
        logger.debug("%s: the trimmed copy cannot be written: %s", manifest, error)


def _seal(source: bytes, body: bytes | memoryview) -> bytes:
    """Return the checksum of a copy: of its manifest, of the version of the trimming, and of the copy's own bytes."""
    return hashlib.sha256(source + _digest(VERSION_OF_TRIMMING) + _digest(body)).hexdigest().encode() + b"\n"


_SEAL_LENGTH = hashlib.sha256().digest_size * 2 + 1


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).digest()


def _remove_abandoned(directory: Path) -> None:
    """Remove the temporary files of writers that were killed."""
    for path in directory.glob(f"{_SCRATCH_PREFIX}*"):
        with suppress(FileNotFoundError):  # another process may be removing it too
            status = path.stat()
            if status.st_uid == os.geteuid() and status.st_mtime < time.time() - _ABANDONED_AFTER_SECONDS:
                path.unlink()
