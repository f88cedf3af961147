"""The nftables table that closes the ports of a unit to other hosts: its file, its claims, and the kernel's rules.

vLLM and torch open ports without keys. torch's store listens on all addresses, whatever its own is.
"""

from collections.abc import Iterator, Sequence
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

    @property
    def is_ipv6(self) -> bool:
        return any(":" in address for address in self.addresses)

    @property
    def thing(self) -> str:
        return f"nftables:{self.table}"


def table_name(sort: str, name: str) -> str:
    """Return the name of the table of a server or run."""
    return f"rackwright_{sort}_{name}".replace("-", "_").replace(".", "_")


def text(firewall: Firewall, repository: Repository) -> str:
    """Return the text of the file."""
    return repository.render("firewall/etc/firewall.nft.j2", firewall=firewall)


def claims(firewall: Firewall) -> Iterator[Claim]:
    """Yield the claims that the host has nftables, and its kernel exactly the rules of the table."""
    yield Claim(PACKAGE, {"installed": True}, owned=False, remedy="install nftables")
    remedy = f"run `rackwright up`, which loads the rules again; until then other hosts may reach {firewall.programs}"
    yield Claim(firewall.thing, {"rules": rules(firewall)}, scope="kernel", remedy=remedy)


def rules(firewall: Firewall) -> tuple[str, ...]:
    """Return the chains and rules of the table, which its file loads.

    A control group that no longer exists is a number in the kernel's rules: those rules belong to an earlier start.
    """
    group = f"socket cgroupv2 == system.slice/{firewall.unit}"
    closed: tuple[str, ...] = (f"input: {group} counter drop",)
    if firewall.addresses:
        own, other = ("ip6", "ipv4") if firewall.is_ipv6 else ("ip", "ipv6")
        several = ", ".join(sorted(firewall.addresses))
        closed = (
            f"input: {group} {own} saddr != {{ {several} }} counter drop",
            f"input: {group} meta nfproto == {other} counter drop",
        )
    return (
        "input: filter hook input priority 0 policy accept",
        "input: meta iifname == lo accept",
        "input: ct state in established,related accept",
        *(() if firewall.port is None else (f"input: tcp dport == {firewall.port} accept",)),
        *closed,
    )


def load(firewall: Firewall) -> Command:
    """Return the step that loads the table while the unit runs; a start of the unit loads it by itself."""
    text = f"load the table {firewall.table}, which closes {firewall.programs} to other hosts"
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
        expected = f"the package nftables, which closes {firewall.programs} to other hosts"
        help = "Add nftables to the packages of role base, or install it on the host, then run this again"
        yield Diagnostic(firewall.id, "the host has no nftables", expected, help)
