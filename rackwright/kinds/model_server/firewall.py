"""The nftables table of a replica over several hosts: its claim, and what the kernel has of it."""

from collections.abc import Iterator, Sequence

from rackwright.core.contract import Absent, Claim, Difference, Value
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server.spec import ServerSpec

PACKAGE = "package:nftables"
"""The package that the unit of a replica needs."""
_REMEDY = "run `rackwright up`, which loads the rules again; until then other hosts may reach the ports of vLLM"


def claims(spec: ServerSpec) -> Iterator[Claim]:
    """Yield the claims that the host has nftables, and its kernel exactly the rules of the replica."""
    if spec.replica:
        yield Claim(PACKAGE, {"installed": True}, owned=False, remedy="install nftables")
        yield Claim(f"nftables:{spec.table}", {"rules": rules(spec)}, scope="kernel", remedy=_REMEDY)


def rules(spec: ServerSpec) -> tuple[str, ...]:
    """Return the chains and rules of the table of *spec*, which its file `firewall.nft` loads.

    A control group that no longer exists is a number in the kernel's rules: those rules belong to an earlier start.
    """
    assert spec.replica is not None
    addresses = sorted(spec.replica.addresses)
    is_ipv6 = ":" in addresses[0]
    group = f"socket cgroupv2 == system.slice/{spec.unit}"
    return (
        "input: filter hook input priority 0 policy accept",
        "input: meta iifname == lo accept",
        "input: ct state in established,related accept",
        *(() if spec.follows else (f"input: tcp dport == {spec.declared.port} accept",)),
        f"input: {group} {'ip6' if is_ipv6 else 'ip'} saddr != {{ {', '.join(addresses)} }} counter drop",
        f"input: {group} meta nfproto == {'ipv4' if is_ipv6 else 'ipv6'} counter drop",
    )


def observe(facts: Facts, table: str) -> Value:
    """Return the chains and rules of *table* in the kernel."""
    found = facts.nftables_table(table)
    return Absent() if found is None else found


def without_tables(differences: Sequence[Difference]) -> Sequence[Difference]:
    """Return *differences* without those of tables on a host without nft, where the missing package is the cause."""
    if not any(item.thing == PACKAGE and not item.is_unknown for item in differences):
        return differences
    return [item for item in differences if not item.thing.startswith("nftables:")]
