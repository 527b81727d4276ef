"""Conversion of dbt's names to names that Dagster accepts.

The result depends only on the original: a new node does not rename others, and two originals never share a name.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache

import dagster as dg

LONGEST_NAME = 1000
"""Maximum length of a name in characters. Databases index names of checks; PostgreSQL's limit is 2,700 bytes a row."""

_ACCEPTABLE = re.compile(r"[A-Za-z0-9_]+")
# Characters that Dagster's asset selections cannot contain; `/` separates the parts of a key.
_NOT_IN_KEYS = re.compile(r"[\"\\/\x00-\x1f\x7f]+")
_GROUP_PATH = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)+")
_DIGITS = 6


def acceptable_name(name: str) -> str:
    """Return a name of ASCII letters, digits and underscores, as Dagster requires.

    A valid name stays unchanged. Any other gets a digest of the original as a suffix, so that `a-b` differs from `a_b`.
    """
    if _ACCEPTABLE.fullmatch(name) and len(name) <= LONGEST_NAME:
        return name
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return _marked(re.sub(r"[^A-Za-z0-9_]+", "_", letters), name)


def acceptable_group(name: str) -> str:
    """Return the name of a group as Dagster requires; some versions accept paths such as `marketing/emea`."""
    return name if _GROUP_PATH.fullmatch(name) and _has_group_paths() else acceptable_name(name)


def acceptable_key_part(part: str) -> str:
    """Return a part of an asset key without the characters that asset selections cannot contain."""
    return part if not _NOT_IN_KEYS.search(part) else _marked(_NOT_IN_KEYS.sub("_", part), part)


def digest(text: str, digits: int = _DIGITS) -> str:
    """Return the first hexadecimal digits of a string's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


@cache
def _has_group_paths() -> bool:
    try:
        dg.AssetSpec("any", group_name="any/any")
    except dg.DagsterInvalidDefinitionError:
        return False
    return True


def _marked(plain: str, original: str) -> str:
    kept = plain.strip("_")[: LONGEST_NAME - _DIGITS - 1]
    return "_".join(part for part in (kept, digest(original)) if part)
