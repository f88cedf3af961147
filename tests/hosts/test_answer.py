"""The facts of a host are signed with its SSH host key: those of another host are refused, and say whose they are."""

import copy
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rackwright.audit.evidence import with_right_host
from rackwright.errors import HostUnreachable, UserError
from rackwright.facts import table
from rackwright.facts.facts import Facts
from rackwright.hosts.answer import check_answer
from rackwright.hosts.pins import WITHOUT_PROOF
from tests.support.signed_answers import CHANGES, HOSTS, KINDS, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), ("ed25519",))


@pytest.mark.parametrize("kinds", [("ed25519",), ("ecdsa",), ("rsa",), tuple(KINDS)])
def test_a_host_that_answers_for_itself_is_accepted(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    site = Site(tmp_path, kinds)

    for host in HOSTS:
        site.check(site.answer(host, "17"), host, "17")


def test_the_facts_of_another_host_say_whose_they_are(site: Site) -> None:
    with pytest.raises(HostUnreachable, match="gpu-01: answers as gpu-02"):
        site.check(site.answer("gpu-02", "17"), "gpu-01", "17")


def test_an_earlier_answer_is_no_answer(site: Site) -> None:
    with pytest.raises(HostUnreachable, match="the answer to another request"):
        site.check(site.answer("gpu-01", "16"), "gpu-01", "17")


def test_a_saved_answer_keeps_its_proof(site: Site) -> None:
    site.check(site.answer("gpu-01", "16"), "gpu-01")
    with pytest.raises(HostUnreachable, match="answers as gpu-03"):
        site.check(site.answer("gpu-03", "16"), "gpu-01")


def test_a_key_that_is_not_pinned_is_shown(site: Site, tmp_path: Path) -> None:
    stranger = Site(tmp_path, ("ed25519",))

    with pytest.raises(HostUnreachable, match="answers with the unknown key SHA256:"):
        site.check(stranger.answer("gpu-01", "17"), "gpu-01", "17")


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_after_the_signature_is_refused(site: Site, change: str) -> None:
    raw = copy.deepcopy(site.answer("gpu-01", "17"))
    CHANGES[change](raw)

    with pytest.raises(HostUnreachable, match="the proof of its identity is not valid"):
        site.check(raw, "gpu-01", "17")


@pytest.mark.parametrize("proofs", [{"unknown": "the host has no SSH host key in /etc/ssh"}, [], None, "x", {}, 7])
@pytest.mark.parametrize("nonce", ["", "17"])
def test_a_probe_that_gives_no_proof_is_refused(site: Site, proofs: object, nonce: str) -> None:
    with pytest.raises(HostUnreachable, match="gives no proof of its identity"):
        site.check({**site.answer("gpu-01", "17"), "proofs": proofs}, "gpu-01", nonce)


def without_proof(site: Site, taken_at: object = 17.25) -> dict[str, object]:
    """Return the facts of a probe from before the proofs."""
    raw = {**site.answer("gpu-01", "17"), "taken_at": taken_at}
    del raw["proofs"]
    return raw


@pytest.mark.parametrize("taken_at", [1.0, 17.25, 4e9, {"unknown": "no clock"}])
@pytest.mark.parametrize(("nonce", "is_saved"), [("", True), ("", False), ("17", False)])
def test_facts_of_an_older_probe_are_refused_whatever_they_say(
    site: Site, nonce: str, is_saved: bool, taken_at: object
) -> None:
    with pytest.raises(HostUnreachable, match="gives no proof of its identity, .*rackwright up"):
        site.check(without_proof(site, taken_at), "gpu-01", nonce, is_saved)


def test_the_operator_alone_accepts_snapshots_of_an_older_probe(tmp_path: Path) -> None:
    site = Site(tmp_path, ("ed25519",))
    with site.known_hosts.open("a") as file:
        file.write(f"{WITHOUT_PROOF} {site.endpoints['gpu-01'].address}\n")

    site.check(without_proof(site), "gpu-01", is_saved=True)
    for host, raw in {"gpu-02": without_proof(site), "gpu-01": {**without_proof(site), "proofs": []}}.items():
        with pytest.raises(HostUnreachable, match="gives no proof of its identity"):
            site.check(raw, host, is_saved=True)
    for nonce in ("", "17"):
        with pytest.raises(HostUnreachable, match="gives no proof of its identity"):
            site.check(without_proof(site), "gpu-01", nonce)
    with pytest.raises(HostUnreachable, match="answers as gpu-02"):
        site.check(site.answer("gpu-02", "17"), "gpu-01", "17")


@pytest.mark.parametrize("comment", ["{mark} {name}", "without-proof", "{mark}"])
def test_a_comment_that_a_host_gives_its_key_accepts_nothing(tmp_path: Path, comment: str) -> None:
    site = Site(tmp_path, ("ed25519",))
    text = comment.format(mark=WITHOUT_PROOF, name=site.endpoints["gpu-01"].address)
    rows = site.known_hosts.read_text().splitlines()
    site.known_hosts.write_text("".join(f"{' '.join(row.split()[:3])} {text}\n" for row in rows))

    with pytest.raises(HostUnreachable, match="gives no proof of its identity"):
        site.check(without_proof(site), "gpu-01", is_saved=True)


def test_a_host_without_a_pin_needs_no_proof(site: Site) -> None:
    endpoint = dataclasses.replace(site.endpoints["gpu-01"], address="192.0.2.99")

    check_answer(Facts(without_proof(site)), endpoint, site.endpoints, "17")


def test_an_audit_says_which_snapshot_has_no_proof(tmp_path: Path) -> None:
    site = Site(tmp_path, ("ed25519",))
    with site.known_hosts.open("a") as file:
        file.write(f"{WITHOUT_PROOF} {site.endpoints['gpu-01'].address}\n")
    said: list[str] = []
    snapshots: dict[str, Facts | UserError] = {
        "gpu-01": Facts(without_proof(site)), "gpu-02": Facts(without_proof(site)),
        "gpu-03": Facts(json.loads(json.dumps(site.answer("gpu-03", "17")))),
    }  # fmt: skip
    stack: Any = SimpleNamespace(endpoints=site.endpoints)

    found = dict(with_right_host(stack, snapshots.items(), said.append))

    assert [isinstance(each, Facts) for each in found.values()] == [True, False, True]
    assert [text.split(":")[0] for text in said] == ["gpu-01"]


def test_the_proof_of_a_snapshot_is_found_without_its_tables(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {f"library{number}": "1.0" for number in range(table.LONG)}
    text = table.dump({**site.answer("gpu-01", "17"), "packages": packages})
    stack: Any = SimpleNamespace(endpoints=site.endpoints)
    monkeypatch.setattr(table.Table, "_decode", None)  # a call fails

    [(name, facts)] = with_right_host(stack, [("gpu-01", Facts(table.parse(text.encode())))], lambda text: None)

    assert name == "gpu-01" and isinstance(facts, Facts)
