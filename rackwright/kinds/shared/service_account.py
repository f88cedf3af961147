"""What stands on a host with an account of its own: its files, and when it can be planned at all.

All its files are root's: the account reads, and changes none.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rackwright.core.contract import Claim, Difference, Plan, Put, Refusal, UnknownValue
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import ownership
from rackwright.kinds.shared.identity import wrong_machine

UNITS = "/etc/systemd/system"


class Holder(Protocol):
    """What stands there."""

    @property
    def id(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def fleet(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def account(self) -> str: ...


@dataclass(frozen=True, slots=True)
class File:
    path: str
    content: str | bytes | None
    """None: it depends on a secret that is not known here."""
    mode: int = 0o640
    secret: str | None = None
    """The names of the secrets that it is made of."""


def claim(file: File, holder: Holder, repository: Repository) -> Claim:
    """Return the claim that *file* is there as it was written."""
    sealed = UnknownValue(f"it depends on the secret {file.secret}, which is not known here")
    content = sealed if file.content is None else repository.digest(file.content)
    want = {"content": content, "mode": f"{file.mode:04o}", "owner": owner(file, holder)}
    return Claim(f"file:{file.path}", want, secret=file.secret is not None)


def owner(file: File, holder: Holder) -> str:
    return f"root:{holder.account}" if file.mode == 0o640 else "root:root"


def put(file: File, holder: Holder) -> Put:
    """Return the step that writes *file*, whose content is known."""
    assert file.content is not None
    text = f"write {file.path}"
    if isinstance(file.content, bytes):
        encoded = base64.b64encode(file.content).decode()
        return Put(text, file.path, encoded, file.mode, owner(file, holder), base64=True)
    return Put(text, file.path, file.content, file.mode, owner(file, holder))


@dataclass(frozen=True, slots=True)
class Words:
    """How a refusal speaks of one sort of holder."""

    noun: str
    sealed: tuple[str, str]
    """Of what depends on a secret that is not known here: got, to which the reason is added; want."""
    mounted: str
    """What its mount is for."""
    linked: str
    """What its link is for."""


def plan(
    holder: Holder,
    words: Words,
    differences: Sequence[Difference],
    facts: Facts,
    refused: Callable[[], Iterable[Refusal]],
    planned: Callable[[], Plan],
) -> Plan:
    """Return what is *planned*, where the host is the right one, all is known, and nothing is *refused*."""
    if refusals := (
        *wrong_machine(holder.host, differences),
        *ownership.foreign(holder.id, holder.fleet, holder.owner, words.noun, facts),
    ):
        return Plan(refusals=refusals)
    if not differences:
        return Plan()
    if unknown := tuple(item for item in differences if item.is_unknown):
        return Plan(by_hand=unknown, refusals=tuple(_blind(holder, words, unknown)))
    try:
        refusals = (*_ground(holder, words, differences), *refused())
        return Plan(refusals=refusals) if refusals else planned()
    except UnknownFact as reason:
        got, want = f"got no answer ({reason})", "a plan needs to know what is there"
        return Plan(refusals=(Refusal(holder.id, got, want, "Mend that, and run again"),))


def _blind(holder: Holder, words: Words, unknown: Sequence[Difference]) -> Iterator[Refusal]:
    """Refuse to write half of it, where its secrets are not known here; what only cannot be seen is told."""
    reasons = dict.fromkeys(item.want.reason for item in unknown if isinstance(item.want, UnknownValue))
    got, want = words.sealed
    for reason in reasons:
        yield Refusal(holder.id, f"{got}: {reason}", want, "Run it where the stack's secrets can be read")


def _ground(holder: Holder, words: Words, differences: Sequence[Difference]) -> Iterator[Refusal]:
    """Refuse where the fleet below is not as it should be: that is another stack's to mend."""
    fix = "Let the stack of the hosts' own fleet mend it, then run this again"
    for item in differences:
        sort, _, name = item.thing.partition(":")
        if sort == "mount":
            yield Refusal(f"{holder.id}: {name}", "got nothing mounted there", words.mounted, fix)
        elif sort == "link":
            yield Refusal(f"{holder.id}: {name}", "got no such link that is up", words.linked, fix)
