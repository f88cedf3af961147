"""The facts of a host are signed with its SSH host key: those of another host are refused, and say whose they are."""

import copy
from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable
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


def test_facts_without_a_proof_are_those_of_an_older_probe(site: Site) -> None:
    site.check({"taken_at": 17.25}, "gpu-01", "17")
    site.check({"proofs": {"unknown": "the host has no SSH host key in /etc/ssh"}}, "gpu-01", "17")
