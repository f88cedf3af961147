"""Facts of a host with the table of a unit, in the form in which nft 1.0.6 lists it."""

from typing import Any

from rackwright.kinds.shared.firewall import Firewall

NFTABLES = "1.0.6-2+deb12u2"


def with_table(raw: dict[str, Any], firewall: Firewall | None) -> dict[str, Any]:
    """Return *raw* with the package nftables, and with the table *firewall* in the kernel."""
    packages = {**raw["packages"], "nftables": NFTABLES}
    tables = {**raw["nftables"], **({firewall.table: listed(firewall)} if firewall else {})}
    return {**raw, "packages": packages, "nftables": tables}


def listed(firewall: Firewall) -> list[dict[str, Any]]:
    """Return the chain and the rules of *firewall*."""
    group = _match({"socket": {"key": "cgroupv2"}}, f"system.slice/{firewall.unit}")
    drop = [{"counter": None}, {"drop": None}]
    rules = [
        [_match({"meta": {"key": "iifname"}}, "lo"), {"accept": None}],
        [_match({"ct": {"key": "state"}}, ["established", "related"], "in"), {"accept": None}],
    ]
    if firewall.port is not None:
        rules.append([_match({"payload": {"protocol": "tcp", "field": "dport"}}, firewall.port), {"accept": None}])
    if firewall.addresses:
        own, other = ("ip6", "ipv4") if firewall.is_ipv6 else ("ip", "ipv6")
        source = {"payload": {"protocol": own, "field": "saddr"}}
        rules.append([group, _match(source, {"set": [*firewall.addresses]}, "!="), *drop])
        rules.append([group, _match({"meta": {"key": "nfproto"}}, other), *drop])
    else:
        rules.append([group, *drop])
    chain = {"name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}
    return [{"chain": chain}, *({"rule": {"chain": "input", "expr": rule}} for rule in rules)]


def _match(left: dict[str, Any], right: object, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}
