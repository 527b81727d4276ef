"""Incidents of a product: what is broken, since which run, and which messages follow from the end of a run.

Pure functions. An incident starts with the first failure of a model, check, step or job and ends with its next success.
Only these two lead to messages, so that a model that fails every hour does not send one every hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST_BODY = 4_000  # characters; chat services refuse longer ones


@dataclass(frozen=True)
class Fault:
    """Something that failed in a run.

    Attributes:
        subject: What failed, such as ``model fct_orders`` or ``check unique_id of fct_orders``.
        message: dbt's message or Dagster's error.
        owners: Owners of the asset, in Dagster's form.
        is_warning: Whether it is a check that only warns.
        query: SQL that shows the failing rows; empty without one.
        skipped: What was skipped because of it.
    """

    subject: str
    message: str
    owners: Sequence[str] = ()
    is_warning: bool = False
    query: str = ""
    skipped: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What a run that has ended tells about the product.

    Attributes:
        run: Id of the run, or the address of its page.
        faults: What failed.
        fine: Subjects that succeeded.
    """

    run: str
    faults: Sequence[Fault] = ()
    fine: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Message:
    """A message about the start or the end of an incident.

    Attributes:
        subject: As in :class:`Fault`.
        title: One line.
        body: Text in Markdown.
        owners: As in :class:`Fault`.
        is_warning: As in :class:`Fault`.
        is_recovery: Whether the incident has ended.
    """

    subject: str
    title: str
    body: str
    owners: Sequence[str] = ()
    is_warning: bool = False
    is_recovery: bool = False


@dataclass(frozen=True)
class Incident:
    """Something that is broken.

    Attributes:
        run: The run in which it failed first.
        owners: As in :class:`Fault`.
        is_warning: As in :class:`Fault`.
    """

    run: str
    owners: Sequence[str] = ()
    is_warning: bool = False


def after_run(
    product: str, incidents: Mapping[str, Incident], outcome: Outcome
) -> tuple[dict[str, Incident], list[Message]]:
    """Return the incidents after a run, and the messages about those that have started or ended in it.

    A warning that becomes an error is a new incident.

    Args:
        product: The product's name.
        incidents: The incidents before the run, by subject.
        outcome: The outcome of the run.
    """
    after, messages = dict(incidents), []
    for fault in outcome.faults:
        known = after.get(fault.subject)
        if known is None or (known.is_warning and not fault.is_warning):
            after[fault.subject] = Incident(outcome.run, tuple(fault.owners), fault.is_warning)
            messages.append(_failure(product, fault, outcome.run))
    failed = {fault.subject for fault in outcome.faults}
    ended = sorted(outcome.fine & after.keys() - failed)
    messages += [_recovery(product, subject, after.pop(subject), outcome.run) for subject in ended]
    return after, messages


def _failure(product: str, fault: Fault, run: str) -> Message:
    verb = "warns" if fault.is_warning else "failed"
    parts = [
        fault.message,
        f"Skipped because of it: {', '.join(fault.skipped)}" if fault.skipped else "",
        f"Failing rows:\n{fault.query}" if fault.query else "",
    ]
    body = "\n\n".join(part for part in parts if part)
    shown = body if len(body) <= _LONGEST_BODY else f"{body[:_LONGEST_BODY]}…"
    title = f"{product}: {fault.subject} {verb}"
    return Message(fault.subject, title, f"{shown}\n\nRun: {run}", tuple(fault.owners), fault.is_warning)


def _recovery(product: str, subject: str, incident: Incident, run: str) -> Message:
    title, body = f"{product}: {subject} works again", f"It failed first in: {incident.run}\n\nRun: {run}"
    return Message(subject, title, body, tuple(incident.owners), incident.is_warning, is_recovery=True)
