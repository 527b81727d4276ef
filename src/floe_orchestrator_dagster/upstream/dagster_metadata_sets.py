"""Faster metadata sets: Dagster's classes that read and write groups of metadata, such as those about tables.

For each object of such a class, Dagster wraps the fields of the class again and checks their annotations. Both are the
same for all objects of a class, of which a load creates several for each asset. Here both are done once for each class.
The functions are replaced for all metadata of the process.
"""

from __future__ import annotations

from functools import cache, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE, _FIELDS, _CLASS = "dagster._core.definitions.metadata.metadata_set", "model_fields", "NamespacedMetadataSet"
# Names that the constructor of the class uses besides those of its base.
_CONSTRUCTOR = {"model_fields", "__class__", "keys", "_get_accepted_types_for_field", "is_raw_metadata_type", "check"}


def find_problem() -> str | None:
    """Return the reason why Dagster's functions cannot be replaced; None when they can."""
    module = import_module(_MODULE)
    own: Any = getattr(module, _CLASS, None)
    if own is None or not callable(getattr(module, _FIELDS, None)):
        return f"{_MODULE} has no {_CLASS} or no {_FIELDS}"
    names = {*own.__init__.__code__.co_names} - {"failed", "__init__", "super"}
    return None if "__init__" in vars(own) and names <= _CONSTRUCTOR else f"the constructor of {_CLASS} has changed"


def replace_metadata_sets() -> None:
    """Replace Dagster's functions in this process. Without effect when the patch is not active."""
    module: Any = import_module(_MODULE)
    own = getattr(module, _CLASS, None)
    if own is None or hasattr(own.__init__, "__wrapped__") or not patches.is_active(patches.METADATA_SETS):
        return
    setattr(module, _FIELDS, cache(getattr(module, _FIELDS)))
    own.__init__ = _checked_once(own)


def _checked_once(kind: Any) -> Callable[..., None]:  # noqa: ANN401  # Dagster's class
    """Return a replacement of the constructor, which it calls for the first object of each class."""
    construct, checked = kind.__init__, set[type]()

    @wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807  # any class and value
        if type(self) in checked:
            super(kind, self).__init__(*args, **kwargs)
        else:
            construct(self, *args, **kwargs)
            checked.add(type(self))

    return __init__
