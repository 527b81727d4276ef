"""The ``floe/product`` tag of runs and assets, and the conversion of strings to valid Dagster tag values."""

from __future__ import annotations

import re
from hashlib import sha256

PRODUCT_TAG = "floe/product"

_INVALID_IN_TAG_VALUE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_TAG_VALUE = 63
_HASH_CHARACTERS = 8


def tag_value(text: str) -> str:
    """Convert a string to a Dagster tag value: at most 63 characters of ``A-Z a-z 0-9 _ . -``.

    A longer string is shortened and ends with a hash of the whole.
    """
    value = _INVALID_IN_TAG_VALUE.sub("_", text)
    if len(value) <= _LONGEST_TAG_VALUE:
        return value
    ending = f"-{sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]}"
    return value[: _LONGEST_TAG_VALUE - len(ending)] + ending
