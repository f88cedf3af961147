"""The nftables tables of rackwright in the kernel."""

import json
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import nftables
from rackwright.facts.view import UnknownFact

RECORDED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "kinds" / "recorded_nftables.json").read_text())
NAME = "rackwright_server_digits"


@pytest.fixture
def nft(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Replace nft by the recorded output, and return the list of its commands."""
    commands: list[tuple[str, ...]] = []

    def run(*argv: str) -> str:
        commands.append(argv)
        return json.dumps(RECORDED["tables" if argv[-1] == "tables" else "leader"])

    monkeypatch.setattr(nftables, "run_tool", run)
    return commands


def loaded(root: Path) -> str:
    (root / "sys/module/nf_tables").mkdir(parents=True)
    return str(root)


def test_tables_have_rules_without_counters_and_handles(tmp_path: Path, nft: list[tuple[str, ...]]) -> None:
    found = nftables.tables(loaded(tmp_path))
    lines = Facts({"nftables": found}).nftables_table(NAME)

    assert nft == [
        ("nft", "--json", "--guid", "list", "tables"),
        ("nft", "--json", "--guid", "list", "table", "inet", NAME),
    ]
    assert "handle" not in json.dumps(found) and "packets" not in json.dumps(found)
    assert lines is not None
    assert lines[:2] == (
        "output: filter hook output priority 0 policy accept",
        "input: filter hook input priority 0 policy accept",
    )
    assert lines[2].endswith("server-digits.service meta mark set 3149193547")
    assert lines[4] == "input: tcp dport == 8080 accept"
    assert lines[7] == (
        "input: socket cgroupv2 == system.slice/server-digits.service ip saddr != { 10.141.0.11, 10.141.0.12 } counter"
        " drop"
    )
    assert Facts({"nftables": found}).nftables_table("rackwright_other") is None


def test_tables_of_others_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [{"table": {"family": family, "name": name}} for family, name in (("ip", NAME), ("inet", "filter"))]
    text = json.dumps({"nftables": [{"metainfo": {"json_schema_version": 1}}, *others]})
    monkeypatch.setattr(nftables, "run_tool", lambda *argv: text)
    assert nftables.tables(loaded(tmp_path)) == {}


def test_nft_does_not_run_where_it_would_load_a_module(tmp_path: Path, nft: list[tuple[str, ...]]) -> None:
    running = tmp_path / "lib/modules/6.1.0"
    running.mkdir(parents=True)
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.1.0\n")
    (running / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    assert nftables.tables(str(tmp_path)) == {}
    assert nft == []
    (running / "modules.builtin").write_text("kernel/net/netfilter/nf_tables.ko\n")
    assert set(nftables.tables(str(tmp_path))) == {NAME}


@pytest.mark.parametrize(
    "value", [5, [5], [{"rule": {"chain": "input", "expr": [{"a": 1, "b": 2}]}}], [{"chain": {"hook": "input"}}], {}]
)
def test_rules_of_another_form_are_unknown(value: Any) -> None:
    with pytest.raises(UnknownFact):
        Facts({"nftables": {NAME: value}}).nftables_table(NAME)


def test_a_statement_without_words_of_its_own_is_shown_as_json() -> None:
    rule = {"rule": {"chain": "input", "expr": [{"log": {"prefix": "x"}}, {"drop": None}]}}
    lines = Facts({"nftables": {NAME: [rule]}}).nftables_table(NAME)
    assert lines == ('input: {"log": {"prefix": "x"}} drop',)


@pytest.mark.parametrize(
    "flags", ["rackwright_teams", ["dormant"]], ids=["as nft 1.0.6 prints them", "as newer ones do"]
)
def test_a_dormant_table_differs_from_one_that_has_an_effect(monkeypatch: pytest.MonkeyPatch, flags: Any) -> None:
    name = "rackwright_teams"
    chain = {
        "family": "inet",
        "table": name,
        "name": "c",
        "type": "filter",
        "hook": "input",
        "prio": 0,
        "policy": "drop",
    }
    lines = []
    for more in ({}, {"flags": flags}):
        items = [{"table": {"family": "inet", "name": name, "handle": 3, **more}}, {"chain": chain}]
        monkeypatch.setattr(nftables, "list_objects", lambda *what, items=items: items)
        lines.append(Facts({"nftables": {name: nftables.table(name)}}).nftables_table(name))

    assert lines[0] == ("c: filter hook input priority 0 policy drop",)
    assert lines[1] == (f"flags {json.dumps(flags)}", *lines[0])
