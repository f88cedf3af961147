"""Classes of what an audit missed: each with instances that are found, and changes of a host that stay silent."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rackwright.core import diff as comparison
from rackwright.errors import HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.facts.probe import packaged
from tests.support import chosen_routes, second_factors, signed_answers
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.raw_facts import Raw, array, mount
from tests.support.recorded_hosts import RESOURCES, STACK, recorded

TIER, RUN, NETWORK = "gpu-02/warm", "ember/digits", "maple/network"
MD, MOUNT = "gpu-02:warm", "/srv/warm"


def differing(name: str, raw: Raw) -> set[str]:
    """Return the properties of a resource that differ or are unknown on the host with the facts *raw*."""
    declared = RESOURCES[name]
    claims = declared.kind.claims(declared.spec, STACK.repository)
    return {item.path for item in comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))}


def judge(
    found: dict[str, Callable[[Raw], Any]], silent: dict[str, Callable[[Raw], Any]], name: str
) -> tuple[int, int]:
    """Require that each change of *found* shows in the resource, and none of *silent*; return their numbers."""
    host = RESOURCES[name].spec.host
    need(not differing(name, recorded(host)), f"{name} differs without a change")
    for text, change in found.items():
        raw = recorded(host)
        change(raw)
        need(bool(differing(name, raw)), f"{text}: nothing differs")
    for text, change in silent.items():
        raw = recorded(host)
        change(raw)
        need(not differing(name, raw), f"{text}: {differing(name, raw)} differ")
    return len(found), len(silent)


def option(*words: str) -> Callable[[Raw], Any]:
    return lambda raw: mount(raw, MOUNT)["options"].extend(words)


OPTIONS = {
    f"mounted with {word}": option(word)
    for word in ("nobarrier", "nouuid", "wsync", "swalloc", "usrquota", "norecovery", "allocsize=64k", "discard")
}
SAME_OPTIONS: dict[str, Callable[[Raw], Any]] = {
    "another order": lambda raw: mount(raw, MOUNT)["options"].reverse(),
    **{f"shown as {word}": option(word) for word in ("seclabel", "logbufs=4", "logbsize=64k", "sunit=512", "barrier")},
}
DATA: dict[str, Callable[[Raw], Any]] = {
    "a swap file": lambda raw: raw["swaps"].append({"path": f"{MOUNT}/swapfile", "type": "file"}),
    "a swap file in a directory": lambda raw: raw["swaps"].append({"path": f"{MOUNT}/a/b", "type": "file"}),
    "a scrub that was stopped": lambda raw: array(raw, MD).__setitem__("sync_min", 8192),
    "a limit of md's sync": lambda raw: array(raw, MD).__setitem__("sync_max", "8192"),
    "a write-mostly member": lambda raw: array(raw, MD)["members"][0]["state"].append("write_mostly"),
    "a failfast member": lambda raw: array(raw, MD)["members"][1]["state"].append("failfast"),
    "a blocked member": lambda raw: array(raw, MD)["members"][0]["state"].append("blocked"),
}
SAME_DATA: dict[str, Callable[[Raw], Any]] = {
    "a swap file elsewhere": lambda raw: raw["swaps"].append({"path": "/swapfile", "type": "file"}),
    "a swap file beside it": lambda raw: raw["swaps"].append({"path": f"{MOUNT}-old/swapfile", "type": "file"}),
    "a swap partition": lambda raw: raw["swaps"].append({"path": "/dev/vda2", "type": "partition"}),
    "a running scrub": lambda raw: array(raw, MD).update(sync_action="check", sync_min=8192),
    "the progress of a scrub": lambda raw: array(raw, MD).update(sync_action="check", sync_completed="4 / 8"),
    "the speed of a scrub": lambda raw: array(raw, MD).update(sync_action="check", sync_speed_kib=17),
    "written data": lambda raw: array(raw, MD).update(array_state="active"),
    "data that rests": lambda raw: array(raw, MD).update(array_state="clean"),
}


def of_run(**values: Any) -> Callable[[Raw], Any]:
    return lambda raw: raw["runs"]["digits"].update(values)


def running(step: int) -> dict[str, Any]:
    return {"outcome": None, "ranks": {"metrics-0.jsonl": {"step": step, "loss": 1.0, "time": 1.0}}}


LOST: dict[str, Callable[[Raw], Any]] = {
    "no directory": of_run(**running(40), has_checkpoints=False),
    "no checkpoint": of_run(**running(900), checkpoint=None),
    "an old checkpoint": of_run(**running(900), checkpoint=100),
}
KEPT: dict[str, Callable[[Raw], Any]] = {
    "the first steps": of_run(**running(40), checkpoint=None),
    "a checkpoint on its way": of_run(**running(910), checkpoint=800),
    "a slow tier": of_run(**running(910), checkpoint=700),
    "no step yet": of_run(outcome=None, ranks={}, checkpoint=None),
}


@line("hardening2", "truth2", part="running")
def test_a_running_system_that_differs_from_its_files_is_found(log: Log) -> str:
    del log
    right = chosen_routes.RIGHT
    need(chosen_routes.chosen("") == right, "the routes of the namespace are not right")
    for name, (change, destination, answer) in chosen_routes.DIVERTED.items():
        need(answer in chosen_routes.chosen(change)[destination], f"{name}: not found")
    for name, change in chosen_routes.SILENT.items():
        need(chosen_routes.chosen(change) == right, f"{name}: found")
    found, silent = judge(OPTIONS, SAME_OPTIONS, TIER)
    ports = 0
    for name, declared in RESOURCES.items():
        if not name.endswith("/network"):
            continue
        for link in [claim.thing[5:] for claim in declared.kind.claims(declared.spec, STACK.repository)]:
            raw = recorded(declared.spec.host)
            row = next((row for row in raw["links"] if row["name"] == link and not row["master"]), None)
            if row is not None:
                row["master"] = "br-by-hand"
                need(f"link:{link}.port_of" in differing(name, raw), f"{name}: {link} in a bridge is not found")
                ports += 1
    need(ports > 0, "no link was tried")
    found += len(chosen_routes.DIVERTED) + ports
    return f"{found} of routes, mounts and links found, {silent + len(chosen_routes.SILENT)} silent"


@line("hardening2", "truth2", part="secrets")
def test_another_content_of_a_second_factor_is_found(log: Log) -> str:
    for number, (name, change) in enumerate(second_factors.WEAKER.items()):
        found = second_factors.read(log.empty_directory() / f"weaker-{number}", change(second_factors.LINES))
        need(not second_factors.is_declared(found), f"{name}: not found")
    for number, (name, change) in enumerate(second_factors.SILENT.items()):
        found = second_factors.read(log.empty_directory() / f"silent-{number}", change(second_factors.LINES))
        need(second_factors.is_declared(found), f"{name}: found")
    return f"{len(second_factors.WEAKER)} contents found, {len(second_factors.SILENT)} notes of the PAM module silent"


@line("hardening2", "truth2", part="data")
def test_changed_data_around_a_declared_thing_is_found(log: Log) -> str:
    del log
    found, silent = judge(DATA, SAME_DATA, TIER)
    lost, kept = judge(LOST, KEPT, RUN)
    return f"{found + lost} changes around tiers and runs found, {silent + kept} silent"


def emptied() -> Iterator[tuple[str, str, Any]]:
    """Yield a text, the key of a list, and the list without what it always has."""
    for key in ("links", "mounts"):
        yield f"no {key}", key, []
    yield "links without lo", "links", [{"name": "fabric0", "kind": "physical"}]
    yield "mounts without /", "mounts", [{"target": "/srv/hot", "device": "md127", "type": "xfs", "options": []}]
    for key in ("users", "groups", "packages", "units", "files", "directories", "sysctls"):
        yield f"no {key}", key, {}


SHORTER = {
    "no link for management": ("links", "management"),
    "no other filesystems of the kernel": ("mounts", "/(dev|proc|sys)(/.*)?|/run(/lock)?"),
    "no undeclared module": ("modules", "(?!nvidia).*"),
    "no scripts of SysV": ("files", r"/etc/(rc.\.d|init\.d)/.*"),
    "no jobs of cron": ("files", r"/etc/cron\..*"),
    "no patterns of logcheck": ("files", "/etc/logcheck/.*"),
    "no directories of runit": ("directories", "/etc/runit.*"),
    "nothing below /usr/local": ("directories", "/usr/local.*"),
    "no owners": ("directories", "/var/lib/rackwright/owners"),
    "no client of SSH": ("packages", "openssh-(client|sftp-server)"),
    "no name of the kernel": ("sysctls", r"kernel\.osrelease"),
    "no mounts of the system in files": ("texts", "/etc/systemd/system/(dev|sys)-.*"),
}
"""Lists that are shorter than usual and have what they always have, by their key and a pattern of the lost names."""


def shorten(raw: Raw, key: str, pattern: str) -> bool:
    """Remove the rows of a list whose names match, and return whether there were any."""
    rows = raw.get(key) or {}
    kept = [row for row in rows if not re.fullmatch(pattern, _name(row))]
    raw[key] = {name: rows[name] for name in kept} if isinstance(rows, dict) else kept
    return len(kept) < len(rows)


def _name(row: Raw | str) -> str:
    return row if isinstance(row, str) else str(row.get("name") or row.get("target"))


@line("hardening2", "truth2", part="empty")
def test_a_list_without_what_it_always_has_is_unknown_and_says_nothing_is_gone(log: Log) -> str:
    del log
    cases = 0
    for text, key, value in emptied():
        for name, declared in RESOURCES.items():
            raw = recorded(declared.spec.host)
            claims = declared.kind.claims(declared.spec, STACK.repository)
            if key not in raw or not raw[key]:
                continue
            raw[key] = copy.deepcopy(value)
            items = comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))
            known = [item.path for item in items if not item.is_unknown]
            need(not known, f"{name} with {text}: {known} differ, and are not known")
            cases += bool(items)
    need(cases > 0, "no list was tried")
    silent = {text: sum(_is_silent(name, text) for name in RESOURCES) for text in SHORTER}
    need(all(silent.values()), f"no host has what is lost: {silent}")
    return (
        f"{cases} resources with a list that lacks what it always has: all unknown; "
        f"{len(silent)} shorter lists on {sum(silent.values())} resources silent"
    )


def _is_silent(name: str, text: str) -> bool:
    """Require that the shorter list shows in no property of a resource; return whether its host has the lost rows."""
    raw = recorded(RESOURCES[name].spec.host)
    is_shorter = shorten(raw, *SHORTER[text])
    need(not is_shorter or not differing(name, raw), f"{name} with {text}: {differing(name, raw)} differ")
    return is_shorter


@line("hardening2", "truth2", part="identity")
def test_a_host_that_answers_for_another_is_named(log: Log) -> str:
    cases = 0
    for kind in signed_answers.KINDS:
        site = signed_answers.Site(log.empty_directory() / kind, (kind,))
        for host in signed_answers.HOSTS:
            site.check(site.answer(host, "17"), host, "17")
            for other in signed_answers.HOSTS:
                if other != host:
                    need(f"answers as {other}" in _refusal(site, other, host), f"{host} as {other}: not named")
                    cases += 1
    for name, change in signed_answers.SILENT.items():
        raw = copy.deepcopy(site.answer("gpu-01", "17"))
        change(raw)
        site.check(raw, "gpu-01", "17")
        log(f"{name}: accepted")
    for name, change in signed_answers.CHANGES.items():
        raw = copy.deepcopy(site.answer("gpu-01", "17"))
        change(raw)
        need("proof of its identity is not valid" in _refusal(site, raw, "gpu-01"), f"{name}: accepted")
        cases += 1
    right = len(signed_answers.KINDS) * len(signed_answers.HOSTS) + len(signed_answers.SILENT)
    return f"{cases} answers for another host refused, {right} right ones accepted"


def _refusal(site: signed_answers.Site, answer: Any, host: str) -> str:
    raw = site.answer(answer, "17") if isinstance(answer, str) else answer
    try:
        site.check(raw, host, "17")
    except HostUnreachable as error:
        return str(error)
    return ""


SHADOWED = ("python3", "sudo", "systemctl", "nft", "ip", "sshd", "mount", "ssh-keygen")
OF_ITS_OWN = ("rackwright-probe", "kubectl", "b2", "python3.99", "sudo-replay", "rclone", "mc", "nvtop", "uv", "just")


@line("hardening2", "truth2", part="program")
def test_a_program_before_one_of_the_system_is_found(log: Log) -> str:
    root = log.empty_directory()
    for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"):
        (root / folder).mkdir(parents=True)
    for name in SHADOWED:
        _program(root / "usr/bin" / name)
    for name in OF_ITS_OWN:
        _program(root / "usr/local/bin" / name)
    need(packaged.shadowing_programs(str(root)) == [], "a program with a name of its own is found")
    cases = 0
    for folder in ("usr/local/bin", "usr/local/sbin"):
        for name in SHADOWED:
            _program(root / folder / name)
            need(packaged.shadowing_programs(str(root)) == [f"/{folder}/{name}"], f"{folder}/{name}: not found")
            (root / folder / name).unlink()
            cases += 1
    return f"{cases} programs before those of the system found, {len(OF_ITS_OWN)} with names of their own silent"


def _program(path: Path) -> None:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
