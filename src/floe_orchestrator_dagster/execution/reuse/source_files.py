"""Data versions of sources that are files which DuckDB reads (``external_location``)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_BYTES = 256 << 20  # per source; larger ones count as changed
_NOT_A_PLACE = frozenset("(){}'\"")


def location(source: Mapping[str, Any]) -> str | None:
    """Return the path or URL of a source's files; None if the source has none, or several.

    Args:
        source: The source in dbt's manifest.
    """
    stated = _places(source)
    if len(stated) != 1:
        return None
    names = {name: source.get(name) or "" for name in ("name", "identifier", "schema")}
    try:
        place = str(stated.pop()).format(**names)
    except (KeyError, IndexError, ValueError):
        return None
    return None if _NOT_A_PLACE & set(place) else place


def is_url(place: str) -> bool:
    """Return whether a place is the URL of one file on a web server."""
    return place.lower().startswith(("http://", "https://")) and "*" not in place


def file_version(place: str, project: Path) -> str | None:
    """Return a hash of the content and times of a source's files; None if it is not local files of limited size.

    Args:
        place: Path of the files, which may be a pattern.
        project: The directory of the dbt project, at which relative paths start.
    """
    return None if ":" in place else _content_version(project, place)


def is_file(source: Mapping[str, Any]) -> bool:
    """Return whether DuckDB reads a source from files, or from another place outside of its database."""
    return bool(_places(source) or any(holder.get("plugin") for holder in _holders(source)))


def _places(source: Mapping[str, Any]) -> set[Any]:
    return {place for holder in _holders(source) if (place := holder.get("external_location"))}


def _holders(source: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    config = source.get("config") or {}
    return [source.get("meta") or {}, config.get("meta") or {}, config]


def _content_version(project: Path, pattern: str) -> str | None:
    place = Path(pattern)
    try:
        if any(mark in pattern for mark in "*?["):
            root, rest = (Path("/"), place.relative_to("/")) if place.is_absolute() else (project, place)
            files = sorted(file for file in root.glob(str(rest)) if file.is_file())
        else:
            files = [project / place]
        if not files or sum(file.stat().st_size for file in files) > _MAX_BYTES:
            return None
        digest = hashlib.sha256()
        for file in files:
            content = file.read_bytes()
            # The time counts, because content that is written, read by dbt and replaced can be the earlier one again.
            digest.update(f"{file}\0{file.stat().st_mtime_ns}\0{len(content)}\0".encode())
            digest.update(content)
    except (OSError, ValueError, NotImplementedError):
        return None
    return f"file:{digest.hexdigest()[:32]}"
