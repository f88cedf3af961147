"""A chain of verdicts is whole, or the first place that is not is named; the share bounds the hosts in quarantine."""

from dataclasses import replace

import pytest

from rackwright.core.sshsig import signed_bytes, ssh_string
from rackwright.log import keys
from rackwright.quarantine.chain import NAMESPACE, Break, Verdict, check
from rackwright.quarantine.hosts import most, quarantine
from tests.support.verdicts import FOREIGN_KEY, KEY, RECEIVER, began, chain, ended, link, public, sign

HOSTS = [f"gpu-0{number}" for number in range(1, 9)]
VERDICTS = began("gpu-01"), began("gpu-02", "DriveFailing", "SN-4711"), ended("gpu-01"), began("gpu-03")
LINES = chain(*VERDICTS)
WHOLE = b"".join(LINES)


def broken(content: bytes, earlier: bytes = b"") -> tuple[str, int] | None:
    found = check(content, public(), RECEIVER, earlier)
    return (found.sort, found.line) if isinstance(found, Break) else None


def test_a_whole_chain_has_its_verdicts() -> None:
    assert check(WHOLE, public(), RECEIVER) == check(WHOLE, None, RECEIVER) == tuple(link(*VERDICTS))


def test_a_line_that_is_being_written_is_left_out() -> None:
    assert check(WHOLE[:-20], public(), RECEIVER) == tuple(link(*VERDICTS))[:-1]


def test_every_changed_byte_is_found() -> None:
    whole = check(WHOLE, public(), RECEIVER)
    for place in range(len(WHOLE)):
        changed = WHOLE[:place] + bytes([WHOLE[place] ^ 1]) + WHOLE[place + 1 :]
        found = check(changed, public(), RECEIVER, WHOLE)
        assert isinstance(found, Break), (place, found == whole)


def test_a_forged_verdict_is_found() -> None:
    forged = sign(link(*VERDICTS)[-1], FOREIGN_KEY)

    assert broken(b"".join((*LINES[:-1], forged))) == ("signature", 4)


def test_a_signature_of_the_same_key_for_another_purpose_does_not_pass() -> None:
    other = sign(link(*VERDICTS)[-1], KEY, keys.NAMESPACE)

    assert broken(b"".join((*LINES[:-1], other))) == ("signature", 4)


def test_a_signature_of_a_verdict_is_none_of_the_operations_log() -> None:
    verdict = link(*VERDICTS)[0]
    key = keys.PublicKey(ssh_string(keys.ALGORITHM) + ssh_string(public()))
    signature = KEY.sign(keys.signed_bytes(verdict.content))

    assert key.verifies(verdict.content, signature)
    assert not key.verifies(verdict.content, KEY.sign(signed_bytes(verdict.content, NAMESPACE)))


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ([*LINES, LINES[0]], 5),
        ([*LINES, LINES[-1]], 5),
        ([LINES[1], LINES[0], *LINES[2:]], 1),
        (LINES[1:], 1),
        ([LINES[0], *LINES[2:]], 2),
    ],
    ids=["first-again", "last-again", "swapped", "without-the-first", "without-one"],
)
def test_a_replayed_or_missing_verdict_is_found(lines: list[bytes], place: int) -> None:
    assert broken(b"".join(lines)) == ("order", place)


def test_a_verdict_of_another_monitoring_host_does_not_count() -> None:
    other = link(replace(VERDICTS[0], receiver="service-02"))

    assert broken(sign(other[0])) == ("receiver", 1)


def test_a_chain_without_verdicts_that_were_read_before_is_shortened() -> None:
    assert broken(b"".join(LINES[:-1]), WHOLE) == ("shortened", 4)
    assert broken(b"", WHOLE) == ("shortened", 1)


def test_a_chain_with_others_in_the_place_of_those_that_were_read_before_is_replaced() -> None:
    other = chain(VERDICTS[0], began("gpu-08"), *VERDICTS[2:])

    assert broken(b"".join(other)) is None
    assert broken(b"".join(other), WHOLE) == ("replaced", 5)


def test_a_chain_goes_on() -> None:
    assert broken(WHOLE, b"".join(LINES[:2])) is None


@pytest.mark.parametrize(
    "verdict",
    [
        began("gpu-01", "LinkDown"),
        began("gpu-01", ""),
        replace(ended("gpu-01"), cause="GpuLost"),
        began("gpu-01", detail="\x1b[31m"),
        replace(began("gpu-01"), format=2),
        replace(began("gpu-01"), time="yesterday"),
    ],
)
def test_a_signed_line_of_another_form_is_refused(verdict: Verdict) -> None:
    assert broken(sign(verdict)) == ("form", 1)


def test_an_end_ends_all_causes_of_its_host_alone() -> None:
    verdicts = link(began("gpu-01"), began("gpu-01", "DriveFailing", "SN-1"), began("gpu-02"), ended("gpu-01"))

    assert [*quarantine(verdicts[:-1], HOSTS, 50).hosts] == ["gpu-01", "gpu-02"]
    assert [*quarantine(verdicts, HOSTS, 50).hosts] == ["gpu-02"]
    assert quarantine(verdicts[:-1], HOSTS, 50).hosts["gpu-01"].text == (
        "in quarantine since 2026-12-04T04:00:00Z: a GPU is lost; a drive is failing (SN-1)"
    )


def test_quarantine_never_exceeds_the_share() -> None:
    found = quarantine(link(*(began(host) for host in HOSTS)), HOSTS, 25)

    assert [*found.hosts] == HOSTS[:2] and [*found.beyond] == HOSTS[2:]


def test_the_end_of_one_host_makes_room_for_the_next() -> None:
    found = quarantine(link(*(began(host) for host in HOSTS), ended("gpu-01")), HOSTS, 25)

    assert [*found.hosts] == ["gpu-02", "gpu-03"]


def test_verdicts_about_hosts_outside_the_fleet_have_no_effect() -> None:
    found = quarantine(link(began("gpu-99"), began("gpu-01")), HOSTS, 25)

    assert [*found.hosts] == ["gpu-01"] and not found.beyond


@pytest.mark.parametrize(("hosts", "share", "count"), [(4, 20, 0), (4, 25, 1), (7, 50, 3), (100, 3, 3)])
def test_the_share_is_rounded_down(hosts: int, share: int, count: int) -> None:
    assert most(hosts, share) == count
