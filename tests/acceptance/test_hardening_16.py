"""An encrypted tier grows by itself, gets another member, and loses nothing to power cuts in the middle of both."""

import secrets
from collections.abc import Callable
from typing import Any

import yaml

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.encrypted_lab import HOST, SYNC_SECONDS
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.replacement import keep_line
from tests.support.tiers import Place, is_at_rest, is_idle, kib, md, places, read_file, write_file

NAME, SIZE = "hot", "256MB"
SERIALS = tuple(f"RW-SEALED-{number}" for number in range(3))
ADDED = ("RW-ADDED-0", "RW-ADDED-1")
SUCCESSOR = "RW-SUCCESSOR"
SLOW_KIB, FAST_KIB = 2000, 500_000


def fleet() -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    common = {"bus": "nvme", "size": SIZE}
    drives += [{"serial": serial, **common, "tier": NAME} for serial in SERIALS]
    drives += [{"serial": serial, **common} for serial in (*ADDED, SUCCESSOR)]
    encryption = {"key": {"secret": f"{NAME}_key"}}
    tier = {"level": "raid5", "filesystem": "ext4", "mount": f"/srv/{NAME}", "encryption": encryption}
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:16", "addresses": ["10.32.0.16/24"]}],
        "tiers": {NAME: tier},
    }
    return yaml.safe_dump({"fleet": "sealed-growth", "hosts": {HOST: host}}, sort_keys=False)


@line("hardening", 16)
def test_an_encrypted_tier_grows_and_keeps_its_data(log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet(), log) as lab:
        lab.pulumi("stack", "select", "--create", status=0)
        lab.start()
        lab.set_secret(f"{NAME}_key", f"{NAME}-{secrets.token_urlsafe(18)}")
        log("up")
        lab.up()
        eventually(lambda: is_idle(lab, _place(lab)), "the first sync ends", SYNC_SECONDS)
        sum, sizes = write_file(lab, _place(lab)), [kib(lab, _place(lab))]

        log(f"{ADDED[0]} is added; nothing but the host's own unit lets the filesystem grow")
        lab.edit(lambda content: _join(content, ADDED[0]))
        lab.up()
        _rests(lab)
        eventually(lambda: kib(lab, _place(lab)) > sizes[-1] * 1.2, "the filesystem has grown by itself", 120)
        sizes.append(kib(lab, _place(lab)))
        _is_whole(lab, sum)

        log(f"{ADDED[1]} is added, and the power goes in the middle")
        _cut(lab, lambda: lab.edit(lambda content: _join(content, ADDED[1])), "reshape")
        _rests(lab)
        lab.up()  # a unit that waits does not outlive a restart
        eventually(lambda: kib(lab, _place(lab)) > sizes[-1] * 1.2, "the filesystem has grown", 120)
        sizes.append(kib(lab, _place(lab)))
        _is_whole(lab, sum)

        log(f"{SUCCESSOR} takes the place of {SERIALS[0]}, and the power goes in the middle of the copy")
        _cut(lab, lambda: keep_line(lab, SERIALS[0], SUCCESSOR), "recover")
        _rests(lab)
        lab.up()
        eventually(lambda: SERIALS[0] not in _members(lab), f"{SERIALS[0]} is let go", 120)
        need(SUCCESSOR in _members(lab), f"{SUCCESSOR} is not a member of {_members(lab)}")
        _is_whole(lab, sum)
        grown = " to ".join(f"{size >> 10}" for size in sizes)
        return f"encrypted raid5 grew from {grown} MiB, a member was replaced, 2 power cuts in the middle, sums equal"


def _cut(lab: Lab, declare: Callable[[], None], work: str) -> None:
    """Run `up` with another declaration, press reset while md is at *work*, and run `up` again."""
    lab.ssh(HOST, f"echo {SLOW_KIB} > {md(lab, _place(lab))}/sync_speed_max")
    declare()
    lab.up()
    action = lab.ssh(HOST, f"cat {md(lab, _place(lab))}/sync_action")
    need(action == work, f"md is at {action} when the power goes, not at {work}")
    faults.hard_reset(lab.twin, HOST, lab.log.write)
    lab.up()


def _rests(lab: Lab) -> None:
    lab.ssh(HOST, f"echo {FAST_KIB} > {md(lab, _place(lab))}/sync_speed_max")
    eventually(lambda: is_at_rest(lab, _place(lab)), "md is at rest", SYNC_SECONDS)


def _is_whole(lab: Lab, sum: str) -> None:
    need(not (differing := lab.audit_differences()), f"{format_claims(differing)} differ")
    need(read_file(lab, _place(lab)) == sum, f"{_place(lab).file} is not what was written")


def _members(lab: Lab) -> set[str]:
    script = f"""for dev in $(mdadm --detail --export {_place(lab).device} | sed -n 's/^MD_DEVICE_.*_DEV=//p'); do
        lsblk -dno SERIAL $dev; done"""
    return {*lab.ssh(HOST, script).split()}


def _join(content: Any, serial: str) -> None:
    next(drive for drive in content["hosts"][HOST]["drives"] if drive["serial"] == serial)["tier"] = NAME


def _place(lab: Lab) -> Place:
    [place] = places(lab.fleet)
    return place
