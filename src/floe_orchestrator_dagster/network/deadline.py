"""Waiting for an answer, but not longer than a number of seconds of wall clock."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def answer_within(seconds: float, ask: Callable[[], T]) -> T:
    """Return what ``ask`` returns, or raise what it raises.

    Only a thread that can be left behind bounds what Python cannot interrupt, such as the resolution of a name.

    Raises:
        TimeoutError: It is not done after ``seconds``; it goes on unseen, and does not keep the process alive.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as error:  # noqa: BLE001  # it is raised again, where it is waited for
            answers.put((None, error))

    threading.Thread(target=answer, name=f"{__name__}: {seconds:g} s", daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not done after {seconds:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # with no error it is what `ask` returned
