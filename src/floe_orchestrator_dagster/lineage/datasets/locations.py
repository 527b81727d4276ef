"""Files and directories: their names as datasets, and their paths without credentials.

In a path ``@``, ``?`` and ``#`` are characters as others; only a URL has a login, and some URLs have a query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePosixPath

_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<authority>[^/]*)(?P<path>.*)", re.DOTALL)
# The container of an Azure URL stands where others have a login.
_AZURE = ("abfss", "abfs", "wasbs", "wasb")
# Stores whose paths are keys: they begin without a slash, and a question mark in them is a pattern of DuckDB's.
_OBJECT_STORES = {"s3", "s3a", "s3n", "r2", "gs", "gcs", "az", "azure", *_AZURE}
_SAME_SCHEMES = {"gcs": "gs", "s3a": "s3", "s3n": "s3"}
# Settings that DuckDB reads from the end of a key, keys among them, and shared access signatures.
_SETTINGS = re.compile(r"\?(s3_\w+=.*|[\w-]+=[^/?]*(&[\w-]+=[^?]*)*)$", re.DOTALL)
_ADLS = ".dfs.core.windows.net"


@dataclass(frozen=True)
class Location:
    """A file, a directory or a pattern of files, without what may be secret.

    Attributes:
        scheme: Of its URL, in lower case; empty for a path of this machine.
        authority: The URL's host or bucket.
        path: What follows, with its first slash; for a path of this machine all of it.
    """

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        """Write it as a path or URL."""
        return f"{self.scheme}://{self.authority}{self.path}" if self.scheme else self.path

    def dataset(self, directory: PurePosixPath) -> tuple[str, str]:
        """Return namespace and name as OpenLineage has them; relative paths start from ``directory``."""
        if not self.scheme:
            return "file", str(directory / self.path)
        if self.scheme in _OBJECT_STORES:
            return self._object()
        path = self.path if self.scheme in {"file", "hdfs"} else self.path.removeprefix("/")
        return f"{self.scheme}://{self.authority}", path

    def _object(self) -> tuple[str, str]:
        scheme, key = _SAME_SCHEMES.get(self.scheme, self.scheme), self.path.removeprefix("/")
        if scheme in _AZURE and self.authority.endswith(_ADLS) and "@" not in self.authority:
            container, _, key = key.partition("/")  # as DuckDB writes it: account, container, path
            return f"{scheme}://{container}@{self.authority}", key
        return f"{scheme}://{self.authority}", key


def read_location(text: str) -> Location:
    """Read the path or URL of a file; logins and settings in a URL are left out."""
    url = _URL.fullmatch(text)
    if url is None:
        return Location("", "", text.removeprefix("file:"))
    scheme, authority, path = url["scheme"].lower(), url["authority"], url["path"]
    if scheme == "file" and authority in {"", "localhost"}:
        return Location("", "", path)
    if scheme not in _AZURE:
        authority, path = without_login(authority, path)
    return Location(scheme, authority, _without_settings(scheme, path))


def without_login(authority: str, path: str) -> tuple[str, str]:
    """Leave user and password out of a URL's parts; a password may hold slashes that should have been encoded."""
    _, login, host = authority.rpartition("@")
    if login:
        return host, path
    _, colon, port = authority.partition(":")
    if colon and not port.isdigit() and "@" in path and not authority.startswith("["):
        host, slash, path = path.rpartition("@")[2].partition("/")
        return host, f"{slash}{path}"
    return authority, path


def _without_settings(scheme: str, path: str) -> str:
    if scheme in {"file", "hdfs"}:
        return path
    return _SETTINGS.sub("", path) if scheme in _OBJECT_STORES else path.partition("?")[0]
