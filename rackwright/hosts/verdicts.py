"""The verdicts of the monitoring host, read over its connection, with the last copy for one that is not reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rackwright.errors import Diagnostic, StepFailed, UserError
from rackwright.files import write_atomic
from rackwright.hosts.pool import Hosts
from rackwright.kinds.role.derived_certificates import derived_public_key
from rackwright.quarantine.chain import CHAIN_BYTES, Break, Verdict, check, complete
from rackwright.quarantine.hosts import Quarantine, QuarantineData, as_json, quarantine
from rackwright.quarantine.program import PATH
from rackwright.schema.fleet import Fleet
from rackwright.schema.secret import name_of
from rackwright.stack import Stack

ROLE = "quarantine_receiver"
ABSENT = 77
"""Status of the command on a host that does not have the program yet."""
SHOW = ("/bin/sh", "-c", f"[ -x {PATH} ] || exit {ABSENT}; exec {PATH} show")


@dataclass(frozen=True, slots=True)
class Receiver:
    """The receiver of verdicts that a fleet declares."""

    host: str
    """The monitoring host."""
    hosts: tuple[str, ...]
    """Hosts that verdicts may be about."""
    share_percent: int
    """Share of *hosts* that is in quarantine at most."""
    secret: str
    """Name of the secret from which the key of the signatures follows."""


@dataclass(frozen=True, slots=True)
class QuarantineLook:
    """The hosts in quarantine, as far as they are known."""

    quarantine: Quarantine
    unknown: str = ""
    """Reason why only the verdicts of the last copy are known; empty if they are those of now."""

    def as_json(self) -> QuarantineData:
        """Return the hosts with verdicts, and the reason, as plain data."""
        return as_json(self.quarantine, self.unknown)

    def notices(self) -> dict[str, str]:
        """Return the quarantine of each host in words, and the reason why later verdicts are unknown."""
        unknown = {"quarantine": f"verdicts since the last copy are unknown: {self.unknown}"} if self.unknown else {}
        return {**{host: each.text for host, each in self.quarantine.hosts.items()}, **unknown}

    def text(self, host: str) -> str | None:
        """Return the quarantine of *host* in words; None for a host that is in none."""
        found = self.quarantine.hosts.get(host)
        return found.text if found else None


def receiver_of(fleet: Fleet) -> Receiver | None:
    """Return the receiver of *fleet*, also of one that uses the hosts of another; None without quarantine."""
    for name, host in fleet.hosts.items():
        if (variables := host.roles.get(ROLE)) is not None:
            share = int(variables["share_percent"])
            return Receiver(name, tuple(variables["hosts"]), share, name_of(variables["key"]))
    return None


def read(hosts: Hosts, stack: Stack, receiver: Receiver) -> Quarantine:
    """Return the quarantine by the verdicts of now, and keep a copy of them.

    The signatures are checked where the secret of monitoring is known: not in a stack that uses the hosts of another.

    Raises:
        HostUnreachable: the monitoring host does not answer.
        StepFailed: it gives no verdicts, or they do not continue those of the last copy.
    """
    return _quarantine(receiver, _read(hosts, stack, receiver))


def look(hosts: Hosts, stack: Stack, receiver: Receiver) -> QuarantineLook:
    """Return the quarantine by the verdicts of now, or else by those of the last copy with the reason."""
    try:
        return QuarantineLook(read(hosts, stack, receiver))
    except UserError as error:
        reason = f"{error.diagnostic.where}: {error.diagnostic.problem}"
        kept = check(_copy(stack, receiver), None, receiver.host)
        verdicts = () if isinstance(kept, Break) else kept
        return QuarantineLook(_quarantine(receiver, verdicts), reason)


def end(hosts: Hosts, stack: Stack, receiver: Receiver, host: str, reason: str) -> Quarantine:
    """End the quarantine of *host*, and return the quarantine after it; the errors are those of `read`."""
    done = hosts.connection(receiver.host).run((PATH, "end", host), reason.encode())
    if done.status:
        raise _program_error(receiver, done.stderr)
    return read(hosts, stack, receiver)


def copy_path(stack: Stack, receiver: Receiver) -> Path:
    """Return the path of the copy of the verdicts that this computer has read last."""
    return stack.verdicts / receiver.host


def _quarantine(receiver: Receiver, verdicts: tuple[Verdict, ...]) -> Quarantine:
    return quarantine(verdicts, receiver.hosts, receiver.share_percent)


def _read(hosts: Hosts, stack: Stack, receiver: Receiver) -> tuple[Verdict, ...]:
    done = hosts.connection(receiver.host).run(SHOW)
    if done.status not in (0, ABSENT):
        raise _program_error(receiver, done.stderr)
    content, earlier = done.stdout, _copy(stack, receiver)
    if len(content) > CHAIN_BYTES:
        raise StepFailed(Diagnostic(_place(receiver), f"its verdicts are longer than {CHAIN_BYTES >> 20} MiB"))
    found = check(content, _key(stack.repository.secrets, receiver), receiver.host, earlier)
    if isinstance(found, Break):
        copy = copy_path(stack, receiver)
        help = (
            f"Find out who changed them. If {receiver.host} was built again, remove {copy}: its verdicts count from now"
        )
        raise StepFailed(Diagnostic(_place(receiver), str(found), "each verdict continues those read before", help))
    if (whole := complete(content)) != earlier:
        copy_path(stack, receiver).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(copy_path(stack, receiver), whole, 0o600)
    return found


def _copy(stack: Stack, receiver: Receiver) -> bytes:
    """Return the verdicts that this computer has read last; empty before the first time."""
    path = copy_path(stack, receiver)
    return path.read_bytes() if path.exists() else b""


def _key(secrets: Mapping[str, str], receiver: Receiver) -> bytes | None:
    value = secrets.get(receiver.secret)
    return None if value is None else derived_public_key(f"{value} quarantine", receiver.host, "server")


def _program_error(receiver: Receiver, output: str) -> StepFailed:
    help = "Look at `journalctl -u 'rackwright-quarantine@*'` on the host"
    return StepFailed(Diagnostic(_place(receiver), output.strip()[-300:] or "it gives no verdicts", help=help))


def _place(receiver: Receiver) -> str:
    return f"{receiver.host}: verdicts"
