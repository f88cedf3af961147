"""The facts of a host are signed with its SSH host key: those of another host are refused, and say whose they are."""

import copy
import dataclasses
import os
import time
from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.hosts.answer import check_answer
from rackwright.hosts.proof_record import FOLDER, ProofRecord
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


def without_proof(site: Site, taken_at: float = 17.25) -> dict[str, object]:
    """Return the facts of a probe from before the proofs."""
    raw = {**site.answer("gpu-01", "17"), "taken_at": taken_at}
    del raw["proofs"]
    return raw


def test_an_older_probe_is_accepted_until_the_first_proof(site: Site, tmp_path: Path) -> None:
    record = ProofRecord(tmp_path)
    site.check(without_proof(site), "gpu-01", "17", record)
    site.check(site.answer("gpu-01", "17"), "gpu-01", "17", record)

    with pytest.raises(HostUnreachable, match="no proof of its identity any more"):
        site.check(without_proof(site), "gpu-01", "17", record)
    site.check(without_proof(site), "gpu-02", "17", record)
    assert [path.read_text() for path in (tmp_path / FOLDER).iterdir()] == ["gpu-01\n"]


def test_a_snapshot_from_before_the_first_proof_stays_readable(site: Site, tmp_path: Path) -> None:
    record = ProofRecord(tmp_path)
    site.check(site.answer("gpu-01", "16"), "gpu-01", "", record, is_live=False)
    assert record.since(site.endpoints["gpu-01"]) is None, "a snapshot is no answer"
    record.add(site.endpoints["gpu-01"])

    site.check(without_proof(site), "gpu-01", "", record, is_live=False)
    later = [without_proof(site, time.time() + 60), {**without_proof(site), "taken_at": {"unknown": "no clock"}}]
    for raw in later:
        with pytest.raises(HostUnreachable, match="no proof of its identity any more"):
            site.check(raw, "gpu-01", "", record, is_live=False)


def test_the_time_of_the_first_proof_stays(site: Site, tmp_path: Path) -> None:
    record, endpoint = ProofRecord(tmp_path), site.endpoints["gpu-01"]
    record.add(endpoint)
    os.utime(record.path(endpoint), (5, 5))
    record.add(endpoint)

    assert record.since(endpoint) == 5


def test_a_host_with_other_keys_is_another_host(site: Site, tmp_path: Path) -> None:
    record = ProofRecord(tmp_path / "project")
    record.add(site.endpoints["gpu-01"])

    assert record.since(Site(tmp_path / "other", ("ed25519",)).endpoints["gpu-01"]) is None


def test_a_host_without_a_pin_needs_no_proof(site: Site) -> None:
    endpoint = dataclasses.replace(site.endpoints["gpu-01"], address="192.0.2.99")

    check_answer(Facts(without_proof(site)), endpoint, site.endpoints, "17")
