"""The files and the plan of a service with its own account on a host.

Root owns all files. The account can read them, and change none.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rackwright.core.contract import Claim, Difference, Plan, Put, UnknownValue
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import ownership
from rackwright.kinds.shared.identity import refuse_wrong_machine
from rackwright.kinds.shared.secrets import UNKNOWN_SECRET_HELP
from rackwright.kinds.shared.unknown_facts import unknown_fact

UNITS = "/etc/systemd/system"


class Service(Protocol):
    """A model server or training run on a host."""

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
class ServiceFile:
    """A file of a service."""

    path: str
    content: str | bytes | None
    """The content; None: it depends on a secret that is unknown on this computer."""
    mode: int = 0o640
    secret: str | None = None
    """The names of the secrets in the content."""


def claim(file: ServiceFile, service: Service, repository: Repository) -> Claim:
    """Return the claim that *file* exists with its content, mode and owner."""
    unknown_secret = UnknownValue(f"it depends on the secret {file.secret}, which is not known here")
    content = unknown_secret if file.content is None else repository.digest(file.content)
    want = {"content": content, "mode": f"{file.mode:04o}", "owner": owner(file, service)}
    return Claim(f"file:{file.path}", want, secret=file.secret is not None)


def owner(file: ServiceFile, service: Service) -> str:
    return f"root:{service.account}" if file.mode == 0o640 else "root:root"


def put(file: ServiceFile, service: Service) -> Put:
    """Return the step that writes *file*; the content must be known."""
    assert file.content is not None
    text = f"write {file.path}"
    if isinstance(file.content, bytes):
        encoded = base64.b64encode(file.content).decode()
        return Put(text, file.path, encoded, file.mode, owner(file, service), base64=True)
    return Put(text, file.path, file.content, file.mode, owner(file, service))


@dataclass(frozen=True, slots=True)
class RefusalTexts:
    """The texts in refusals of one sort of service."""

    noun: str
    secrets: str
    """The secrets that the service needs."""
    mount: str
    """The mount that it needs, with its purpose."""
    link: str
    """The link that it needs, with its purpose."""


def plan(
    service: Service,
    texts: RefusalTexts,
    differences: Sequence[Difference],
    facts: Facts,
    refuse: Callable[[], Iterable[Diagnostic]],
    make_plan: Callable[[], Plan],
) -> Plan:
    """Return the plan of *make_plan*, unless the machine is wrong, facts are unknown or *refuse* yields a refusal."""
    if refusals := (
        *refuse_wrong_machine(service.host, differences),
        *ownership.refuse_foreign(service.id, service.fleet, service.owner, texts.noun, facts),
    ):
        return Plan(refusals=refusals)
    if not differences:
        return Plan()
    if unknown := tuple(item for item in differences if item.is_unknown):
        return Plan(by_hand=unknown, refusals=tuple(_refuse_unknown_secrets(service, texts, unknown)))
    try:
        refusals = (*_refuse_broken_host(service, texts, differences), *refuse())
        return Plan(refusals=refusals) if refusals else make_plan()
    except UnknownFact as reason:
        return Plan(refusals=(unknown_fact(service.id, reason),))


def _refuse_unknown_secrets(
    service: Service, texts: RefusalTexts, unknown: Sequence[Difference]
) -> Iterator[Diagnostic]:
    """Yield a refusal for each unknown secret: a plan would write only some of the files. Unknown facts yield none."""
    reasons = dict.fromkeys(item.want.reason for item in unknown if isinstance(item.want, UnknownValue))
    for reason in reasons:
        yield Diagnostic(
            service.id, f"a secret is unknown: {reason}", texts.secrets, UNKNOWN_SECRET_HELP, id="secret-unknown"
        )


def _refuse_broken_host(
    service: Service, texts: RefusalTexts, differences: Sequence[Difference]
) -> Iterator[Diagnostic]:
    """Yield a refusal for each missing mount or link: the stack of the hosts has to fix it."""
    help = "Run `rackwright up` for the stack of the hosts, then run this again"
    for item in differences:
        sort, _, name = item.thing.partition(":")
        if sort == "mount" and item.name == "present":
            yield Diagnostic(f"{service.id}: {name}", "nothing is mounted there", texts.mount, help, id="mount-missing")
        elif sort == "link":
            yield Diagnostic(
                f"{service.id}: {name}", "the link does not exist or is down", texts.link, help, id="mount-missing"
            )
