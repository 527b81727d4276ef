"""The tag that runs and assets of a product carry, in the characters that Dagster takes."""

from __future__ import annotations

import re
from hashlib import sha256

PRODUCT_TAG = "floe/product"

_INVALID_IN_TAG_VALUE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_TAG_VALUE = 63
_HASH_CHARACTERS = 8


def tag_value(text: str) -> str:
    """Make a text fit for a Dagster tag value: 63 characters of ``A-Z a-z 0-9 _ . -``, distinct where it is cut."""
    value = _INVALID_IN_TAG_VALUE.sub("_", text)
    if len(value) <= _LONGEST_TAG_VALUE:
        return value
    ending = f"-{sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]}"
    return value[: _LONGEST_TAG_VALUE - len(ending)] + ending
