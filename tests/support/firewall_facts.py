"""Facts of a host with the table of a unit, in the form in which nft 1.0.6 lists it."""

from typing import Any

from rackwright.kinds.shared.firewall import Firewall

NFTABLES = "1.0.6-2+deb12u2"
CHAINS = ("output", "input")


def with_table(raw: dict[str, Any], firewall: Firewall | None) -> dict[str, Any]:
    """Return *raw* with the package nftables, and with the table *firewall* in the kernel."""
    packages = {**raw["packages"], "nftables": NFTABLES}
    tables = {**raw["nftables"], **({firewall.table: listed(firewall)} if firewall else {})}
    return {**raw, "packages": packages, "nftables": tables}


def listed(firewall: Firewall) -> list[dict[str, Any]]:
    """Return the chain and the rules of *firewall*."""
    group = _match({"socket": {"key": "cgroupv2"}}, f"system.slice/{firewall.unit}")
    drop = [{"counter": None}, {"drop": None}]
    mark, local = {"meta": {"key": "mark"}}, _match({"meta": {"key": "iifname"}}, "lo")
    marked = [_match({"meta": {"key": "oifname"}}, "lo"), group, {"mangle": {"key": mark, "value": firewall.mark}}]
    rules = [[_match({"ct": {"key": "state"}}, ["established", "related"], "in"), {"accept": None}]]
    if firewall.port is not None:
        rules.append([_match({"payload": {"protocol": "tcp", "field": "dport"}}, firewall.port), {"accept": None}])
    rules.append([local, _match(mark, firewall.mark), {"accept": None}])
    if firewall.addresses:
        rules.append([local, group, *drop])
        own, other = ("ip6", "ipv4") if firewall.is_ipv6 else ("ip", "ipv6")
        source = {"payload": {"protocol": own, "field": "saddr"}}
        rules.append([group, _match(source, {"set": [*firewall.addresses]}, "!="), *drop])
        rules.append([group, _match({"meta": {"key": "nfproto"}}, other), *drop])
    else:
        rules.append([group, *drop])
    chains = [{"name": name, "type": "filter", "hook": name, "prio": 0, "policy": "accept"} for name in CHAINS]
    return [
        *({"chain": chain} for chain in chains),
        {"rule": {"chain": "output", "expr": marked}},
        *({"rule": {"chain": "input", "expr": rule}} for rule in rules),
    ]


def _match(left: dict[str, Any], right: object, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}
