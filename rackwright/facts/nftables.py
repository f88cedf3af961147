"""The view of the packet filters in the kernel."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.facts.view import Fact, View, texts

VERDICTS = ("accept", "drop", "counter", "return")
"""Statements that stand in a rule without a value."""


class HostNftables(View):
    """The nftables tables of a host."""

    packet_filters = Fact(texts, "Tables of nftables and of the older iptables, such as ``inet filter``, sorted.")

    def nftables_table(self, name: str) -> tuple[str, ...] | None:
        """Return the chains and rules of a table of rackwright, a line for each; None if the kernel has none.

        The JSON of nft 1.0.6 has no level of a control group. Its name has as many parts as the level says.
        """
        lines: tuple[str, ...] | None = self.find("nftables", name, _lines)
        return lines


def _lines(items: Any) -> tuple[str, ...]:
    if not isinstance(items, list):
        raise TypeError("no list")
    return tuple(map(_line, items))


def _line(item: Mapping[str, Any]) -> str:
    """Return the flags of the table, a chain or a rule as one line, in words like those of nft."""
    if "table" in item:
        return f"flags {json.dumps(item['table']['flags'])}"
    if "chain" in item:
        chain = item["chain"]
        if "hook" not in chain:
            return f"{chain['name']}:"
        hook = f"{chain['type']} hook {chain['hook']} priority {chain['prio']} policy {chain['policy']}"
        return f"{chain['name']}: {hook}"
    rule = item["rule"]
    return f"{rule['chain']}: {' '.join(_statements(rule['expr']))}"


def _statements(expressions: list[dict[str, Any]]) -> Iterator[str]:
    for expression in expressions:
        [(name, value)] = expression.items()
        if name == "match":
            yield f"{_operand(value['left'])} {value['op']} {_operand(value['right'])}"
        elif name == "mangle" and value.keys() == {"key", "value"}:
            yield f"{_operand(value['key'])} set {_operand(value['value'])}"
        elif name in VERDICTS and not value:
            yield name
        elif name == "set" and (limit := _limit_of_connections(value)):
            yield limit
        else:
            yield json.dumps(expression, sort_keys=True)


def _limit_of_connections(value: Mapping[str, Any]) -> str:
    """Return a limit of connections for each element of a set; empty for another use of a set."""
    match value:
        case {"op": "add", "elem": element, "set": name, "stmt": [{"ct count": {"val": number, "inv": True}}], **more}:
            return "" if more else f"add {name} {{ {_operand(element)} ct count over {number} }}"
    return ""


def _operand(value: Any) -> str:
    match value:
        case {"meta": {"key": key}} | {"ct": {"key": key}} | {"socket": {"key": key}}:
            return f"{next(iter(value))} {key}"
        case {"fib": {"result": result, "flags": flags}}:
            return f"fib {' . '.join(flags)} {result}"
        case {"payload": {"protocol": protocol, "field": field}}:
            return f"{protocol} {field}"
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"set": members}:
            return f"{{ {', '.join(sorted(map(_operand, members)))} }}"
        case list():
            return ",".join(sorted(map(_operand, value)))
        case False:  # of a lookup without a result
            return "missing"
        case dict():
            return json.dumps(value, sort_keys=True)
        case _:
            return str(value)
