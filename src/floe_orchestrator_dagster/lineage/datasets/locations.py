"""OpenLineage names of files and directories, without credentials.

In a path ``@``, ``?`` and ``#`` are ordinary characters. Only URLs have logins, and some URLs have queries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePosixPath

_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<authority>[^/]*)(?P<path>.*)", re.DOTALL)
# Schemes of Azure, whose URLs have the container in the place of a login.
_AZURE = ("abfss", "abfs", "wasbs", "wasb")
# Object stores. Their keys start without a slash, and a question mark in a key is a wildcard of DuckDB.
_OBJECT_STORES = {"s3", "s3a", "s3n", "r2", "gs", "gcs", "az", "azure", *_AZURE}
_SAME_SCHEMES = {"gcs": "gs", "s3a": "s3", "s3n": "s3"}
# Settings after a key: those that DuckDB reads, such as access keys, and shared access signatures.
_SETTINGS = re.compile(r"\?(s3_\w+=.*|[\w-]+=[^/?]*(&[\w-]+=[^?]*)*)$", re.DOTALL)
_ADLS = ".dfs.core.windows.net"


@dataclass(frozen=True)
class Location:
    """A file, a directory or a pattern of files, without secrets.

    Attributes:
        scheme: The URL's scheme in lower case; empty for a local path.
        authority: The URL's host or bucket.
        path: The URL's path with its first slash, or the local path.
    """

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        """Return the path or URL."""
        return f"{self.scheme}://{self.authority}{self.path}" if self.scheme else self.path

    def dataset(self, directory: PurePosixPath) -> tuple[str, str]:
        """Return OpenLineage's namespace and name; relative paths start at ``directory``."""
        if not self.scheme:
            return "file", str(directory / self.path)
        if self.scheme in _OBJECT_STORES:
            return self._object()
        path = self.path if self.scheme in {"file", "hdfs"} else self.path.removeprefix("/")
        return f"{self.scheme}://{self.authority}", path

    def _object(self) -> tuple[str, str]:
        scheme, key = _SAME_SCHEMES.get(self.scheme, self.scheme), self.path.removeprefix("/")
        if scheme in _AZURE and self.authority.endswith(_ADLS) and "@" not in self.authority:
            container, _, key = key.partition("/")  # DuckDB's order: account, container, path
            return f"{scheme}://{container}@{self.authority}", key
        return f"{scheme}://{self.authority}", key


def read_location(text: str) -> Location:
    """Parse the path or URL of a file, without logins and settings in the URL."""
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
    """Remove user and password from the parts of a URL. The password may contain slashes that are not encoded."""
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
