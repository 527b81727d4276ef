"""Incidents of a product, and the messages that follow from the end of a run.

Pure functions. An incident starts with the first failure of an asset, check, step or job and ends with its next
success. Only these two lead to messages, so that a model that fails every hour does not send one every hour.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

LATE = "late"
"""Kind of a fault: the freshness policy of an asset."""
_RECOVERED = " works again"
_FAILURE = re.compile(" (?:failed|warns)$")
_MARKUP = re.compile(r"[][`*<>\\]")
_LONGEST_PART = 1_500  # characters; some chat services refuse messages of more than 2,000
_MOST_LISTED = 200  # titles of messages that are sent as one
_MAX_CLOSED = 500
_RETENTION_SECONDS = 30 * 86_400.0


@dataclass(frozen=True)
class Fault:
    """Something that failed in a run.

    Attributes:
        subject: Name of the failed thing, such as ``asset fct_orders`` or ``check unique_id of fct_orders``.
        message: dbt's message or Dagster's error.
        time: Time of the failure, in seconds since 1970.
        asset: Key of the asset; empty for a step or a job.
        owners: Owners of the asset, in Dagster's form.
        is_warning: Whether it is a check that only warns.
        kind: ``asset``, ``check``, ``freshness`` (a check of it), ``late`` (a freshness policy), ``step`` or ``job``.
        query: SQL that shows the failing rows, as a block of Markdown; empty without one.
        skipped: Names of the nodes that were skipped because of it.
        has_end: Whether a later success ends the incident. False for ad-hoc runs of assets and for runs of several
            partitions, which no later run repeats.
    """

    subject: str
    message: str
    time: float = 0.0
    asset: str = ""
    owners: Sequence[str] = ()
    is_warning: bool = False
    kind: str = ""
    query: str = ""
    skipped: Sequence[str] = ()
    has_end: bool = True


@dataclass(frozen=True)
class Outcome:
    """Failures and successes of a run that has ended.

    Attributes:
        run: Id of the run, or the address of its page; empty for data that was reported without a run.
        faults: The failures.
        fine: Subjects that succeeded, with the time, in seconds since 1970.
        unknown: Subjects without a state any more. Their incidents end without a message.
    """

    run: str
    faults: Sequence[Fault] = ()
    fine: Mapping[str, float] = field(default_factory=dict)
    unknown: Sequence[str] = ()


@dataclass(frozen=True)
class Message:
    """A message about the start or the end of an incident.

    Attributes:
        title: One line.
        body: Text in Markdown.
        owners: As in :class:`Fault`.
        is_warning: As in :class:`Fault`.
        is_recovery: Whether the incident has ended.
        subject: As in :class:`Fault`; empty for several messages as one.
        kind: As in :class:`Fault`.
        run: As in :class:`Outcome`; empty for several messages as one.
        skipped: As in :class:`Fault`.
        listed: Titles and runs of the messages that are sent as this one.
        omitted: Number of further ones that are not listed.
        refusals: How often the channel has not accepted it.
    """

    title: str
    body: str
    owners: Sequence[str] = ()
    is_warning: bool = False
    is_recovery: bool = False
    subject: str = ""
    kind: str = ""
    run: str = ""
    skipped: Sequence[str] = ()
    listed: Sequence[Sequence[str]] = ()
    omitted: int = 0
    refusals: int = 0


@dataclass(frozen=True)
class Incident:
    """Something that is broken.

    Attributes:
        run: The run in which it failed first.
        time: Time of its last failure, in seconds since 1970.
        asset: As in :class:`Fault`.
        owners: As in :class:`Fault`.
        is_warning: Whether it has only warned since it started.
        kind: As in :class:`Fault`.
    """

    run: str
    time: float = 0.0
    asset: str = ""
    owners: Sequence[str] = ()
    is_warning: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Incidents:
    """Open and recently closed incidents.

    Attributes:
        broken: The open incidents, by subject.
        closed: Time of the success that ended an incident, by subject, for runs that end in another order.
    """

    broken: Mapping[str, Incident] = field(default_factory=dict)
    closed: Mapping[str, float] = field(default_factory=dict)

    def without_removed(self, assets: AbstractSet[str], timely: AbstractSet[str], now: float) -> Incidents:
        """Return the incidents without those of removed assets and policies, and those that last failed a month ago.

        Args:
            assets: The assets.
            timely: The assets with a freshness policy.
            now: The time, in seconds since 1970.
        """
        kept = {
            subject: incident
            for subject, incident in self.broken.items()
            if (not incident.asset or incident.asset in (timely if incident.kind == LATE else assets))
            and now - incident.time < _RETENTION_SECONDS
        }
        return Incidents(kept, self.closed)


def after_run(product: str, incidents: Incidents, outcome: Outcome) -> tuple[Incidents, list[Message]]:
    """Return the incidents after a run, and the messages about those that have started or ended in it.

    A warning that becomes an error is a second message. An error that becomes a warning stays an error until its end,
    so that each channel with the failure gets the recovery. A success only ends an incident whose last failure is
    earlier.

    Args:
        product: The product's name.
        incidents: The incidents before the run.
        outcome: The outcome of the run.
    """
    broken, closed, messages = dict(incidents.broken), dict(incidents.closed), []
    for fault in outcome.faults:
        known = broken.get(fault.subject)
        if fault.time < closed.get(fault.subject, 0.0):
            continue
        if known is None or (known.is_warning and not fault.is_warning):
            messages.append(_failure(product, fault, outcome.run))
        if fault.has_end:
            first, last = known.run if known else outcome.run, max(fault.time, known.time if known else 0.0)
            only_warned = fault.is_warning and (known is None or known.is_warning)
            owners = tuple(fault.owners)
            broken[fault.subject] = Incident(first, last, fault.asset, owners, only_warned, fault.kind)
    for subject, time in sorted(outcome.fine.items()):
        if subject in broken and broken[subject].time < time:
            messages.append(_recovery(product, subject, broken.pop(subject), outcome.run))
            closed[subject] = time
    for subject in outcome.unknown:
        broken.pop(subject, None)
    newest = sorted(closed, key=lambda subject: closed[subject])[-_MAX_CLOSED:]
    return Incidents(broken, {subject: closed[subject] for subject in newest}), messages


def as_one(product: str, messages: Sequence[Message]) -> Message:
    """Return one message that lists several, some of which can be such messages themselves.

    Its text has what is broken at the end first, then what has recovered, and of both the newest first.

    Args:
        product: The product's name.
        messages: The messages.
    """
    every = [entry for one in messages for entry in (one.listed or [(one.title.removeprefix(f"{product}: "), one.run)])]
    listed = every[-_MOST_LISTED:]
    omitted = sum(one.omitted for one in messages) + len(every) - len(listed)
    lines, shown = [], ""
    for title, run in _broken_first(listed):
        heading = f"Run: {run}" if run else "Without a run:"
        lines.append(f"- {_plain(title)}" if heading == shown else f"{heading}\n- {_plain(title)}")
        shown = heading
    body, rest = _fitting(lines)
    further = [f"and {omitted + rest} more, see the runs in Dagster"] if omitted + rest else []
    owners = dict.fromkeys(owner for one in messages for owner in one.owners)
    return Message(
        f"{product}: {len(listed) + omitted} messages",
        "\n".join([*body, *further]),
        tuple(owners),
        all(one.is_warning for one in messages),
        all(one.is_recovery for one in messages),
        listed=tuple(map(tuple, listed)),
        omitted=omitted,
    )


def _broken_first(listed: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    recovered: set[str] = set()
    broken: list[Sequence[str]] = []
    others: list[Sequence[str]] = []
    for entry in reversed(listed):
        subject, is_recovery = entry[0].removesuffix(_RECOVERED), entry[0].endswith(_RECOVERED)
        if is_recovery:
            recovered.add(subject)
        is_broken = not is_recovery and _FAILURE.sub("", subject) not in recovered
        (broken if is_broken else others).append(entry)
    return [*broken, *others]


def _plain(title: str) -> str:
    """Return a title for a list in Markdown. Names of partitions can be any text."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(title.split()))


def _fitting(lines: Sequence[str]) -> tuple[Sequence[str], int]:
    """Return the first lines that a message can have, and the number of the others."""
    length = 0
    for row, line in enumerate(lines):
        length += len(line) + 1
        if length > _LONGEST_PART:
            return lines[:row], len(lines) - row
    return lines, 0


def _failure(product: str, fault: Fault, run: str) -> Message:
    verb = "warns" if fault.is_warning else "failed"
    parts = [
        f"Run: {run}" if run else "",
        _fenced(fault.message),
        f"Skipped because of it: {_cut(', '.join(fault.skipped))}" if fault.skipped else "",
        f"Failing rows:\n{fault.query}" if fault.query and len(fault.query) <= _LONGEST_PART else "",
    ]
    body = "\n\n".join(part for part in parts if part)
    return Message(
        f"{product}: {fault.subject} {verb}",
        body,
        tuple(fault.owners),
        fault.is_warning,
        subject=fault.subject,
        kind=fault.kind,
        run=run,
        skipped=tuple(fault.skipped),
    )


def _recovery(product: str, subject: str, incident: Incident, run: str) -> Message:
    title = f"{product}: {subject}{_RECOVERED}"
    last = f"Run: {run}" if run else "It was reported without a run."
    first = "" if incident.kind == LATE else f"\n\nIt failed first in: {incident.run}"
    return Message(
        title,
        f"{last}{first}",
        tuple(incident.owners),
        incident.is_warning,
        is_recovery=True,
        subject=subject,
        kind=incident.kind,
        run=run,
    )


def _fenced(text: str) -> str:
    """Return a block of Markdown that shows the text as it is."""
    return f"```text\n{_cut(text).replace('```', chr(39) * 3)}\n```"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_PART else f"{text[:_LONGEST_PART]}…"
