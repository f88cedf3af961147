"""Declared tiers with the facts of hosts: recorded, and changed at random in every way that a plan depends on."""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from hypothesis import strategies as st

from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, Plan
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.tier import TierKind
from rackwright.kinds.tier.situation import Situation, situation
from rackwright.kinds.tier.spec import TierSpec
from rackwright.schema.tier import MEMBERS
from tests.support.mutations import ROWS, without
from tests.support.recorded_hosts import FREE, RESOURCES, STACK, recorded
from tests.support.tier_spec import changed, of_size, unwatched

Raw = dict[str, Any]
KIND = TierKind()
TIERS = {name: each.spec for name, each in RESOURCES.items() if isinstance(each.spec, TierSpec)}
NEW = ("S-NEW0", "S-NEW1")
"""Serial numbers of drives that no recorded host has."""
LARGER_BYTES = 2 << 30
EXT4 = {"signatures": [{"type": "ext4", "uuid": "u-1", "label": None}], "witnesses": ["9c1e"]}
LUKS = {"signatures": [{"type": "crypto_LUKS", "uuid": "u-2", "label": None}], "witnesses": [None]}
BLANK = {**FREE, "signatures": [], "witnesses": [], "superblock": None, "sample": [], "holders": [], "mountpoints": []}
CONTENTS: dict[str, Raw] = {
    "blank": {},
    "ext4": EXT4,
    "LUKS": LUKS,
    "data": {"sample": ["data 77aa"]},
    "mounted": {"mountpoints": ["/mnt"], "sample": {"unknown": "in use"}},
    "unreadable": {"sample": {"unknown": "an I/O error"}},
    "small": {"size_bytes": 256_000_000},
    "failing": {"health": {"passed": False, "pending_sectors": 0, "media_errors": 0, "wear_percent": 0}},
}


@dataclass(repr=False)
class Scenario:
    """A declaration and a host; made step by step, and then asked for its plan."""

    spec: TierSpec
    raw: Raw
    repository: Repository = STACK.repository

    @property
    def facts(self) -> Facts:
        return Facts(self.raw)

    @property
    def owner_key(self) -> str:
        return f"tier-{self.spec.name}"

    @property
    def found(self) -> Raw | None:
        """The array of the tier, where the kernel knows one."""
        keys = {f"{self.spec.host}:{self.spec.name}", self.spec.array_key}
        return next((each for each in self.raw["arrays"] if keys & {each["md_name"], each["uuid"]}), None)

    def differences(self) -> tuple[Difference, ...]:
        claims = KIND.claims(self.spec, self.repository)
        return comparison.diff(claims, KIND.observe(claims, self.facts))

    def plan(self) -> Plan:
        return KIND.plan(self.spec, self.differences(), self.facts, self.repository)

    def situation(self) -> Situation:
        return situation(self.spec, self.facts, self.facts.owner(self.owner_key) or {})

    def declare(self, **changes: Any) -> None:
        self.spec = changed(self.spec, **changes)

    def parts(self, *serials: str) -> tuple[Any, ...]:
        first = self.spec.members[0]
        return tuple(first.model_copy(update={"serial": serial}) for serial in serials)

    def drive(self, serial: str) -> Raw | None:
        return next((each for each in self.raw["drives"] if each["serial"] == serial), None)

    def member(self, serial: str) -> Raw | None:
        there = self.drive(serial)
        rows = self.found["members"] if self.found else []
        return next((each for each in rows if there and each["name"] == there["name"]), None)


@cache
def _text_of(host: str) -> str:
    return json.dumps(recorded(host))


def scenario(name: str) -> Scenario:
    """Return a tier as it is declared, on its host as it was recorded."""
    return Scenario(TIERS[name], json.loads(_text_of(TIERS[name].host)))


# -- what is on the host ---------------------------------------------------------------------------------------------


def stop(case: Scenario, how: str) -> None:
    """Stop the array; *inactive*: the kernel still knows it; *blank*: nothing is on its drives, and none is noted."""
    found = case.found
    if found is None:
        return
    opened = {each["name"] for each in case.raw.get("mappings", ()) if found["name"] in each["on"]}
    for table in ("filesystems", "mounts", "luks_headers"):
        case.raw[table] = [each for each in case.raw.get(table, ()) if each["device"] not in {found["name"], *opened}]
    case.raw["mappings"] = [each for each in case.raw.get("mappings", ()) if each["name"] not in opened]
    if how == "inactive":
        found["array_state"] = "inactive"
    else:
        without(case.raw["arrays"], name=found["name"])
    for serial in case.spec.serials:
        if there := case.drive(serial):
            there.update(holders=[], sample=["data 5a5a"], **FREE)
            if how == "blank":
                there.update(BLANK)
    if how == "blank":
        case.raw["owners"].pop(case.owner_key, None)


def note(case: Scenario, phase: str, serials: str, former: tuple[str, ...], luks: str) -> None:
    """Let the owner file say something else."""
    owners = case.raw["owners"]
    if phase == "absent":
        owners.pop(case.owner_key, None)
    elif phase == "unknown":
        owners[case.owner_key] = {"unknown": "it is not JSON"}
    elif phase != "keep":
        record = {"id": case.spec.id, "fleet": case.spec.fleet, "phase": phase, "serials": sorted(case.spec.serials)}
        record |= {k: v for k, v in owners.get(case.owner_key, {}).items() if k in ("luks",)}
        if phase == "formatted":
            record |= {"phase": "creating", "formatted": True}
        if phase == "foreign":
            record |= {"phase": "ready", "fleet": "elsewhere"}
        owners[case.owner_key] = record
    record = owners.get(case.owner_key)
    if not isinstance(record, dict) or "serials" not in record:
        return
    if serials == "none":
        del record["serials"]
    elif serials == "one more":
        record["serials"] = sorted([*record["serials"], NEW[0]])
    elif serials == "one less":
        record["serials"] = record["serials"][1:]
    if former:
        record["former"] = list(former)
    if luks == "none":
        record.pop("luks", None)
    elif luks == "another":
        record["luks"] = "another"


def hurt(case: Scenario, serial: str, how: str) -> None:
    """Let something happen to a member."""
    entry, there, found = case.member(serial), case.drive(serial), case.found
    if how == "gone" and there:
        without(case.raw["drives"], serial=serial)
    elif how == "no superblock" and there:
        there.update(superblock=None, signatures=[], witnesses=[])
    elif how == "blank" and there:
        there.update(BLANK)
    elif how == "rewritten" and there:
        there.update({**copy.deepcopy(BLANK), **copy.deepcopy(EXT4)})
    elif how == "failing" and there:
        there["health"]["passed"] = False
    elif how == "old superblock" and there and there["superblock"]:
        there["superblock"]["events"] -= 5
    elif how == "superblock of another" and there and there["superblock"]:
        there["superblock"].update(array_uuid="0:0:0:0")
    elif how == "early data" and there and there["superblock"]:
        there["superblock"]["data_offset_bytes"] = 512 << 10
    elif how == "unreadable superblock" and there:
        there["superblock"] = {"unknown": "an I/O error"}
    elif entry is None or found is None:
        return
    elif how == "out":
        found["members"].remove(entry)
    elif how == "out, of another array" and there:
        found["members"].remove(entry)
        hurt(case, serial, "superblock of another")
    elif how == "faulty":
        entry.update(state=["faulty"], slot=None)
    elif how == "want_replacement":
        entry["state"] = [*entry["state"], "want_replacement"]
    elif how == "spare":
        entry.update(state=["spare"], slot=None)
    elif how == "names none":
        entry["names_array"] = None
    elif how == "names another":
        entry["names_array"] = "0:0:0:0"


HURTS = (
    "gone", "no superblock", "blank", "rewritten", "rewritten", "failing", "old superblock", "superblock of another",
    "early data", "unreadable superblock", "out", "out, of another array", "faulty", "want_replacement", "spare",
    "names none", "names another",
)  # fmt: skip


def bring(case: Scenario, serial: str, content: str, place: str) -> None:
    """Put another drive into the machine, and perhaps into the array."""
    like = copy.deepcopy(case.raw["drives"][0]) if case.raw["drives"] else None
    if like is None:
        return
    own = next((each for part in case.spec.members if (each := case.drive(part.serial))), like)
    new = {**copy.deepcopy(own), "serial": serial, "name": f"new{serial[-1]}", **copy.deepcopy(BLANK)}
    new.update(copy.deepcopy(CONTENTS[content]))
    case.raw["drives"].append(new)
    found = case.found
    if place == "outside" or found is None:
        return
    if own["superblock"] is not None and place != "former":
        new.update(superblock=copy.deepcopy(own["superblock"]), signatures=own["signatures"], holders=[found["name"]])
        new["witnesses"] = own["witnesses"]
    slots = [each["slot"] for each in found["members"] if each["slot"] is not None]
    entries = {
        "spare": {"slot": None, "state": ["spare"]},
        "copy": {"slot": min(slots, default=0), "state": ["spare", "replacement"]},
        "copied": {"slot": min(slots, default=0), "state": ["in_sync"]},
        "member": {"slot": max(slots, default=0) + 1, "state": ["in_sync"]},
    }
    if place in entries:
        found["members"].append({"name": new["name"], "names_array": found["uuid"], **entries[place]})
    if place == "member":
        found["devices"] += 1


ACTIVITIES: dict[str, Raw] = {
    "idle": {},
    "check": {"sync_action": "check"},
    "resync": {"sync_action": "resync"},
    "recover": {"sync_action": "recover"},
    "recover, degraded": {"sync_action": "recover", "degraded": 1},
    "reshape": {"sync_action": "reshape", "reshape_position": "8192"},
    "interrupted": {"sync_action": "idle", "reshape_position": "8192"},
    "interrupted, checked": {"sync_action": "check", "reshape_position": "8192"},
    "degraded": {"degraded": 1},
    "failed": {"degraded": 4},
    "broken": {"array_state": "broken"},
}
ARRAY_CHANGES: tuple[Raw, ...] = (
    {"bitmap": "none"}, {"ppl": True, "bitmap": "none"}, {"array_size": "1024"}, {"level": "raid1"},
    {"level": "raid0", "bitmap": "none"}, {"chunk_bytes": 65536}, {"mismatch_count": 8}, {"sync_speed_max_kib": 1000},
    {"metadata": "1.0"}, {"member_bytes": 256 << 20}, {"member_bytes": 4 << 30}, {"size_bytes": 4 << 30},
)  # fmt: skip
UNITS = {"load": "loaded", "active": "active", "enabled": "transient"}


def adopt(case: Scenario) -> None:
    """Let the tier be one that somebody else has made."""
    if found := case.found:
        case.declare(array=found["uuid"], key=None, tpm2=False, scrub=None)


def enlarge(case: Scenario, *, drives: bool) -> None:
    case.declare(members=of_size(case.spec.members, LARGER_BYTES), spares=of_size(case.spec.spares, LARGER_BYTES))
    for serial in case.spec.serials if drives else ():
        if there := case.drive(serial):
            there["size_bytes"] = LARGER_BYTES


def successor(case: Scenario, number: int, serial: str) -> None:
    """Declare another drive in the place of a member."""
    members = [part.serial for part in case.spec.members]
    if serial not in case.spec.serials:
        members[number % len(members)] = serial
    case.declare(members=case.parts(*members))


def one_more(case: Scenario, serial: str) -> None:
    if serial not in case.spec.serials:
        case.declare(members=(*case.spec.members, *case.parts(serial)))


def one_spare_more(case: Scenario, serial: str) -> None:
    if serial not in case.spec.serials and case.spec.level != "raid0":
        case.declare(spares=(*case.spec.spares, *case.parts(serial)))


def spare_is_member(case: Scenario) -> None:
    case.declare(members=(*case.spec.members, *case.spec.spares), spares=())


DECLARED: dict[str, Callable[[Scenario], None]] = {
    "member 0 becomes new": lambda case: successor(case, 0, NEW[0]),
    "member 1 becomes new": lambda case: successor(case, 1, NEW[1]),
    "member 1 becomes the same new": lambda case: successor(case, 1, NEW[0]),
    "one more": lambda case: one_more(case, NEW[0]),
    "another one more": lambda case: one_more(case, NEW[1]),
    "one spare more": lambda case: one_spare_more(case, NEW[0]),
    "no spares": lambda case: case.declare(spares=()),
    "spares become members": spare_is_member,
    "one less": lambda case: case.declare(members=case.spec.members[:-1]),
    "the last becomes a spare": lambda case: case.declare(
        members=case.spec.members[:-1], spares=(*case.spec.spares, case.spec.members[-1])
    ),
    "larger": lambda case: enlarge(case, drives=True),
    "larger, drives are not": lambda case: enlarge(case, drives=False),
    "waits": lambda case: case.declare(wait_for_sync=True),
    "another level": lambda case: case.declare(level="raid5" if case.spec.level != "raid5" else "raid6"),
    "raid0": lambda case: case.declare(level="raid0", bitmap=False, spares=(), scrub=None),
    "another chunk": lambda case: case.declare(chunk_kib=64 if case.spec.level != "raid1" else 0),
    "no bitmap": lambda case: case.declare(bitmap=False),
    "ppl": lambda case: case.declare(ppl=case.spec.level == "raid5", bitmap=case.spec.level != "raid5"),
    "a cap": lambda case: case.declare(sync_speed_max_kib=5000),
    "no scrub": lambda case: case.declare(scrub=None),
    "ext4": lambda case: case.declare(filesystem="ext4"),
    "another place": lambda case: case.declare(mount="/srv/another"),
    "options": lambda case: case.declare(options=("noatime", "nodev")),
    "not encrypted": lambda case: case.declare(key=None, tpm2=False),
    "encrypted": lambda case: case.declare(key="hot_key"),
    "sealed": lambda case: case.declare(key=case.spec.declared.key or "hot_key", tpm2=True),
    "not watched": lambda case: case.declare(members=unwatched(case.spec.members), spares=unwatched(case.spec.spares)),
    "taken over": adopt,
}


def consent(case: Scenario, by_command: bool, forms: str) -> None:
    """Give up what is on drives: all of it, or something else."""
    contents = {}
    for there in case.raw["drives"]:
        try:
            contents[there["serial"]] = Facts(case.raw).drive(there["serial"]).content
        except Exception:  # noqa: S112 - what cannot be read has no content
            continue
    if forms == "of something else":
        contents = {serial: text.replace("9c1e", "0000") for serial, text in contents.items()}
    if by_command:
        case.repository = replace(case.repository, consents=contents)
    else:
        case.declare(wipe=contents)


def _rows(case: Scenario) -> list[tuple[str, str, str]]:
    claims = KIND.claims(case.spec, case.repository)
    return [(sort, key, name) for each in claims for name in each.want for sort, key in [each.thing.split(":", 1)]]


def _change_property(case: Scenario, number: int, hides: bool) -> None:
    rows = [row for row in _rows(case) if row[2] in ROWS.get(row[0], {})]
    sort, key, name = rows[number % len(rows)]
    row = ROWS[sort][name]
    with suppress(StopIteration, RuntimeError, KeyError, IndexError, TypeError, AttributeError, ValueError):
        (row.hide if hides else row.differ)(case.raw, key)  # the thing may not be there any more


def _unmount(case: Scenario) -> None:
    without(case.raw["mounts"], target=case.spec.declared.mount)


def _close(case: Scenario) -> None:
    opened = [each["name"] for each in case.raw.get("mappings", ()) if each["mapped_name"] == case.spec.mapping]
    for table in ("filesystems", "mounts"):
        case.raw[table] = [each for each in case.raw[table] if each["device"] not in opened]
    case.raw["mappings"] = [each for each in case.raw.get("mappings", ()) if each["name"] not in opened]


def _carrier(case: Scenario) -> str | None:
    opened = [each["name"] for each in case.raw.get("mappings", ()) if each["mapped_name"] == case.spec.mapping]
    return opened[0] if opened else case.found and case.found["name"]


def _filesystems(case: Scenario, change: Callable[[Raw], Any]) -> None:
    on = _carrier(case)
    for each in [each for each in case.raw["filesystems"] if each["device"] == on]:
        change(each)


EVENTS: dict[str, Callable[[Scenario], Any]] = {
    "not mounted": _unmount,
    "closed": _close,
    "something else is mounted there": lambda case: case.raw["mounts"].append(
        {"target": case.spec.declared.mount, "device": "sdz", "type": "ext4", "options": ["rw"]}
    ),
    "mounted elsewhere": lambda case: [
        each.update(target="/elsewhere") for each in case.raw["mounts"] if each["target"] == case.spec.declared.mount
    ],
    "no filesystem": lambda case: _filesystems(case, case.raw["filesystems"].remove),
    "small filesystem": lambda case: _filesystems(case, lambda each: each.update(size_bytes=100 << 20)),
    "two filesystems": lambda case: _filesystems(
        case, lambda each: case.raw["filesystems"].append({**each, "type": "btrfs", "uuid": "another"})
    ),
    "cut filesystem": lambda case: _filesystems(case, lambda each: each.update(complete=False)),
    "no header": lambda case: case.raw.update(luks_headers=[]),
    "name is taken": lambda case: case.raw.setdefault("mappings", []).append(
        {"name": "dm-7", "mapped_name": case.spec.mapping, "on": ["sdz"], "size_bytes": 1}
    ),
    "another machine": lambda case: case.raw["identity"].update(serial="ANOTHER"),
    "a unit waits to replace": lambda case: case.raw["units"].update(
        {f"rackwright-replace-{case.spec.array_key.replace(':', '-')}.service": UNITS}
    ),
    "a unit waits to enlarge": lambda case: case.raw["units"].update(
        {f"rackwright-enlarge-{case.spec.array_key.replace(':', '-')}.service": UNITS}
    ),
    "an initramfs": lambda case: case.raw.update(initramfs=[{"path": "/boot/initrd.img-6.1.0", "mtime_ns": 1}]),
    "no secrets": lambda case: setattr(case, "repository", replace(case.repository, secrets={})),
    "no TPM": lambda case: case.raw.update(tpm=None),
    "no cryptsetup": lambda case: case.raw["packages"].pop("cryptsetup-bin", None),
    "key of another kind": lambda case: case.raw["files"].update(
        {case.spec.other_key_path: {"digest": "x", "mode": "0600", "owner": "root:root", "mtime_ns": 1}}
    ),
    "another key": lambda case: case.raw["files"].get(case.spec.key_path, {}).update(digest="of the key before"),
    "no unit of the mount": lambda case: case.raw["units"].pop(case.spec.unit, None),
    "files are gone": lambda case: case.raw.update(files={}, texts={}),
}
HIDDEN = (
    "arrays", "drives", "filesystems", "mounts", "units", "owners", "mappings", "luks_headers", "packages", "files",
    "initramfs", "identity",
)  # fmt: skip
"""Tables of the facts that a probe could not read."""


THEMES: dict[str, tuple[str, ...]] = {
    "none": (),
    "replace": ("member 0 becomes new",),
    "replace two": ("member 0 becomes new", "member 1 becomes new"),
    "grow": ("one more",),
    "enlarge": ("larger",),
    "replace by a larger": ("larger", "member 0 becomes new"),
    "spare": ("one spare more",),
    "growth that is cut off": ("one more",),
}
"""Changes of a declaration that are likely to be made together."""
PHASES = ("keep", "absent", "removed", "creating", "creating", "formatted", "growing", "replacing", "ready", "removing")
PLACES = ("outside", "outside", "outside", "spare", "copy", "copied", "member", "former")


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Draw a declaration and a host that fit each other more or less."""

    def likely(percent: int) -> bool:
        return draw(st.integers(0, 99)) < percent

    case = scenario(draw(st.sampled_from(sorted(TIERS))))
    before = case.spec.serials
    if likely(8):
        adopt(case)
    if likely(35):
        stop(case, draw(st.sampled_from(["stopped", "inactive", "blank"])))
    theme = draw(st.sampled_from(sorted(THEMES)))
    others = draw(st.lists(st.sampled_from(sorted(DECLARED)), max_size=2, unique=True)) if likely(40) else []
    for wish in (*THEMES[theme], *others):
        spec = case.spec
        DECLARED[wish](case)
        if len(case.spec.members) < MEMBERS[case.spec.level]:
            case.spec = spec
    for serial in NEW:
        if (serial in case.spec.serials and likely(90)) or likely(20):
            content = draw(st.sampled_from(("ext4", "LUKS", "data", *CONTENTS))) if likely(60) else "blank"
            place = draw(st.sampled_from(PLACES)) if likely(60) else "outside"
            bring(case, serial, content, "member" if "cut off" in theme else place)
    if likely(40):
        for serial in draw(st.lists(st.sampled_from(before), max_size=2, unique=True)):
            hurt(case, serial, draw(st.sampled_from(HURTS)))
    if (found := case.found) is not None:
        activity = "interrupted" if "cut off" in theme else draw(st.sampled_from(sorted(ACTIVITIES)))
        found.update(ACTIVITIES[activity] if likely(50) else {})
        found.update(draw(st.sampled_from(ARRAY_CHANGES)) if likely(10) else {})
        found["devices"] += draw(st.sampled_from([-1, 1])) if likely(8) else 0
    if likely(50):
        phase = draw(st.sampled_from(PHASES)) if likely(95) else draw(st.sampled_from(["foreign", "unknown"]))
        serials = draw(st.sampled_from(["keep", "keep", "none", "one more", "one less"]))
        former = draw(st.sampled_from([(), (), (NEW[1],), (before[0],)]))
        note(case, phase, serials, former, draw(st.sampled_from(["keep", "keep", "none", "another"])))
    for event in draw(st.lists(st.sampled_from(sorted(EVENTS)), max_size=2, unique=True)) if likely(30) else ():
        EVENTS[event](case)
    if likely(50):
        consent(case, draw(st.booleans()), "all" if likely(80) else "of something else")
    if likely(30):
        _change_property(case, draw(st.integers(0, 80)), hides=likely(25))
    if likely(8):
        case.raw[draw(st.sampled_from(HIDDEN))] = {"unknown": "no permission"}
    if likely(5) and isinstance(case.raw["arrays"], list) and (found := case.found):
        found[draw(st.sampled_from(sorted(found)))] = {"unknown": "no permission"}
    return case
