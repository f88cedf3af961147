"""The nftables table that closes the ports of a unit to others: its file, its claims, and the kernel's rules.

vLLM and torch open ports without keys. torch's store listens on all addresses, whatever its own is. Packets of the
host itself pass if the unit sent them: the output chain marks those, and a mark does not leave the host.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rackwright.core.contract import Absent, Claim, Command, Difference, Value
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts

RUNNING_STATES = ("active", "activating", "reloading", "deactivating")
"""States of a unit that has processes."""
PACKAGE = "package:nftables"
"""The package that such a unit needs."""


@dataclass(frozen=True, slots=True)
class Firewall:
    """The table of one unit."""

    id: str
    """The resource with the unit."""
    table: str
    """The name of the table."""
    unit: str
    """The unit, a service in system.slice."""
    path: str
    """The path of the file with the table."""
    programs: str
    """The programs that open the ports, for texts."""
    addresses: tuple[str, ...] = ()
    """Addresses that reach all ports of the unit, of one family; empty: no other host does."""
    port: int | None = None
    """The port that all hosts reach."""
    partners: tuple[str, ...] = ()
    """Other units of the host that reach all ports of the unit."""

    @property
    def is_ipv6(self) -> bool:
        return any(":" in address for address in self.addresses)

    @property
    def mark(self) -> int:
        """The mark of the packets that the unit sends to its own host."""
        return mark(self.unit)

    @property
    def accepted_marks(self) -> str:
        """The marks of packets of the host that reach all ports of the unit, as an operand of a rule."""
        return _any_of(map(mark, (self.unit, *self.partners)))

    @property
    def sources(self) -> str:
        """The addresses that reach all ports of the unit, as an operand of a rule."""
        return _any_of(self.addresses)

    @property
    def thing(self) -> str:
        return f"nftables:{self.table}"


def table_name(sort: str, name: str) -> str:
    """Return the name of the table of a server or run."""
    return f"rackwright_{sort}_{name}".replace("-", "_").replace(".", "_")


def mark(unit: str) -> int:
    """Return the mark of the packets of *unit*: 32 bits that differ by unit, and are not 0, which is no mark."""
    return zlib.crc32(unit.encode()) or 1


def text(firewall: Firewall, repository: Repository) -> str:
    """Return the text of the file."""
    return repository.render("firewall/etc/firewall.nft.j2", firewall=firewall)


def claims(firewall: Firewall) -> Iterator[Claim]:
    """Yield the claims that the host has nftables, and its kernel exactly the rules of the table."""
    yield Claim(PACKAGE, {"installed": True}, owned=False, remedy="install nftables")
    remedy = f"run `rackwright up`, which loads the rules again; until then others may reach {firewall.programs}"
    yield Claim(firewall.thing, {"rules": rules(firewall)}, scope="kernel", remedy=remedy)


def rules(firewall: Firewall) -> tuple[str, ...]:
    """Return the chains and rules of the table, which its file loads.

    A control group that no longer exists is a number in the kernel's rules: those rules belong to an earlier start.
    """
    group = f"socket cgroupv2 == system.slice/{firewall.unit}"
    local = "meta iifname == lo"
    closed: tuple[str, ...] = (f"input: {group} counter drop",)
    if firewall.addresses:
        own, other = ("ip6", "ipv4") if firewall.is_ipv6 else ("ip", "ipv6")
        closed = (
            f"input: {local} {group} counter drop",
            f"input: {group} {own} saddr != {firewall.sources} counter drop",
            f"input: {group} meta nfproto == {other} counter drop",
        )
    return (
        "output: filter hook output priority 0 policy accept",
        "input: filter hook input priority 0 policy accept",
        f"output: meta oifname == lo {group} meta mark set {firewall.mark}",
        "input: ct state in established,related accept",
        *(() if firewall.port is None else (f"input: tcp dport == {firewall.port} accept",)),
        f"input: {local} meta mark == {firewall.accepted_marks} accept",
        *closed,
    )


def _any_of(values: Iterable[object]) -> str:
    """Return *values* as nft lists them: several as a set, one as itself."""
    texts = sorted(map(str, values))
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"


def load(firewall: Firewall) -> Command:
    """Return the step that loads the table while the unit runs; a start of the unit loads it by itself."""
    text = f"load the table {firewall.table}, which closes {firewall.programs} to others"
    return Command(text, ("/usr/sbin/nft", "-f", firewall.path), timeout_seconds=60)


def observe(facts: Facts, table: str, claim: Claim) -> Value:
    """Return the chains and rules of *table* in the kernel; the claimed ones if its unit has no process, and no table.

    A unit takes its table away when it ends, and loads it before it starts a process.
    """
    found = facts.nftables_table(table)
    if found is not None:
        return found
    wanted = claim.want["rules"]
    assert isinstance(wanted, tuple)
    unit = facts.unit(str(wanted[-1]).partition("system.slice/")[2].partition(" ")[0])
    return Absent() if unit is not None and unit.active in RUNNING_STATES else wanted


def without_tables(differences: Sequence[Difference]) -> Sequence[Difference]:
    """Return *differences* without those of tables on a host without nft, where the missing package is the cause."""
    if not any(item.thing == PACKAGE and not item.is_unknown for item in differences):
        return differences
    return [item for item in differences if not item.thing.startswith("nftables:")]


def refuse_without_nftables(firewall: Firewall, differences: Sequence[Difference]) -> Iterator[Diagnostic]:
    """Yield a refusal if the host has no nftables."""
    if any(item.thing == PACKAGE and not item.is_unknown for item in differences):
        expected = f"the package nftables, which closes {firewall.programs} to others"
        help = "Add nftables to the packages of role base, or install it on the host, then run this again"
        yield Diagnostic(firewall.id, "the host has no nftables", expected, help)
