"""A directory or object store, opened with fsspec, with this package's errors.

fsspec's implementations: https://filesystem-spec.readthedocs.io/en/latest/api.html#other-known-implementations
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from floe_orchestrator_dagster.errors import Problem, StateError
from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem

_PACKAGES = {"state-s3": ("s3", "s3a"), "state-gcs": ("gs", "gcs"), "state-azure": ("az", "abfs", "abfss")}
_EXTRAS = {protocol: extra for extra, protocols in _PACKAGES.items() for protocol in protocols}
# Stores whose files appear in one step, when they are complete, and that have no directories.
_OBJECT_STORES = frozenset({*_EXTRAS, "memory"})
_SECONDS = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}
_OPTIONS = {protocol: {"config_kwargs": _SECONDS} for protocol in ("s3", "s3a")}
_SCHEME = "://"
_CHECK = "Check the URL, the network, and the credentials in the environment."


class Store:
    """Files below a URL."""

    def __init__(self, url: str) -> None:
        """Open a store. Nothing is read yet.

        Args:
            url: A directory, or a URL of fsspec such as ``s3://bucket/prefix``.

        Raises:
            StateError: The protocol is unknown, or its package is not installed.
        """
        self.url = url
        protocol = url.partition(_SCHEME)[0] if _SCHEME in url else "file"
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations

        local = url if _SCHEME in url else str(Path(url).expanduser().absolute())
        try:
            self._files: AbstractFileSystem
            self._files, self._root = url_to_fs(local, **_OPTIONS.get(protocol, {}))
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            own = f'`pip install "floe-orchestrator-dagster[{extra}]"`' if extra else ""
            hint = str(known_implementations.get(protocol, {}).get("err") or error).strip()
            fix = f"Install it: {own}." if own else f"{hint.removesuffix('.')}."
            what = f"the package for {protocol}{_SCHEME} is not installed"
            raise StateError(url, [Problem("", what, fix)]) from None
        except Exception as error:  # noqa: BLE001 - each protocol's library raises its own errors
            fix = "Write a directory, or a URL such as `s3://bucket/prefix`."
            raise StateError(url, [Problem("", f"cannot be opened: {_said(error)}", fix)]) from None
        self._is_object_store = protocol in _OBJECT_STORES

    def read(self, path: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: There is none.
            StateError: The store cannot be reached.
        """
        with self._errors(f"{path} cannot be read"):
            self._files.invalidate_cache()
            content: bytes = self._files.cat_file(self._at(path))
        return content

    def write(self, path: str, content: bytes) -> None:
        """Write a file in one step: a reader finds it complete, or not at all.

        Raises:
            StateError: The store cannot be reached or refuses it.
        """
        target = self._at(path)
        with self._errors(f"{path} cannot be written", missing=True):
            if self._is_object_store:
                self._files.pipe_file(target, content)
                return
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            scratch = f"{target}.{uuid4().hex}"
            try:
                self._files.pipe_file(scratch, content)
                self._files.mv(scratch, target)
            finally:
                with suppress(FileNotFoundError):  # it was renamed
                    self._files.rm_file(scratch)

    def names(self, path: str) -> list[str]:
        """List the names in a directory; empty for a directory that does not exist.

        Raises:
            StateError: The store cannot be reached.
        """
        with self._errors(f"{path or 'its content'} cannot be listed"):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._at(path), detail=False)
            except FileNotFoundError:
                return []
        return sorted({str(name).rstrip("/").rpartition("/")[2] for name in found} - {""})

    def remove(self, path: str) -> None:
        """Remove a directory with its files, which another process can remove at the same time.

        Raises:
            StateError: The store cannot be reached or refuses it.
        """
        with self._errors(f"{path} cannot be removed"), suppress(FileNotFoundError):
            self._files.rm(self._at(path), recursive=True)

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}".rstrip("/")

    @contextmanager
    def _errors(self, what: str, *, missing: bool = False) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not missing:
                raise
            raise StateError(self.url, [Problem("", f"{what}: {_said(error)}", _CHECK)]) from None
        except Exception as error:  # noqa: BLE001 - each protocol's library raises its own errors
            raise StateError(self.url, [Problem("", f"{what}: {_said(error)}", _CHECK)]) from None


def _said(error: Exception) -> str:
    """Return the first line of a library's error, without credentials."""
    lines = str(error).strip().splitlines()
    return redact(lines[0] if lines else type(error).__name__)
