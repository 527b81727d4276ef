"""Setup that all workers of pytest-xdist share, because a session's fixture is set up in each of them."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from files import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import pytest

    Found = dict[str, str]

_LONGEST_USE_SECONDS = 600


@contextmanager
def shared_by_workers(
    factory: pytest.TempPathFactory, name: str, started: Callable[[Path], AbstractContextManager[Found]]
) -> Iterator[Found]:
    """Start something in the first worker that wants it; that one ends it, when no other uses it any more.

    Args:
        factory: The session's.
        name: What it is called, for all workers.
        started: Starts it in a new directory; returns its location.
    """
    base, worker = factory.getbasetemp(), os.environ.get("PYTEST_XDIST_WORKER", "")
    directory = (base.parent if worker else base) / name
    directory.mkdir(exist_ok=True)
    lock, place, own = directory / "lock", directory / "place.json", directory / f"{worker or 'only'}.user"
    with ExitStack() as stack:
        with locked(lock):
            is_mine = not place.exists()
            if is_mine:
                place.write_text(json.dumps(stack.enter_context(started(Path(mkdtemp(dir=directory))))))
            own.touch()
        try:
            yield json.loads(place.read_text())
        finally:
            own.unlink()
            if is_mine:
                _wait_for_others(directory, lock, place)


def _wait_for_others(directory: Path, lock: Path, place: Path) -> None:
    """Wait until no live worker uses it. A later worker starts it again."""
    until = time.monotonic() + _LONGEST_USE_SECONDS
    while True:
        with locked(lock):
            if time.monotonic() > until or not list(directory.glob("*.user")):
                place.unlink()
                return
        time.sleep(0.2)
