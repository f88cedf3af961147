"""A tier that is encrypted: how it is made, opened, given another key, grown and erased, and what is refused."""

import base64
from dataclasses import replace

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Put, UnknownValue
from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.schema.secret import derive_value
from tests.kinds.tier.conftest import refused, texts
from tests.support.mutations import (
    array,
    copy,
    drive,
    header,
    header_made_anew,
    mapping,
    opened_as_another,
    without,
)
from tests.support.recorded_hosts import FREE, RESOURCES, STACK, WRITES, recorded
from tests.support.tier_spec import changed

TIER = RESOURCES["sorrel/hot"]
SPEC = TIER.spec
SERIALS = [member.serial for member in SPEC.members]
KEY, NEW_KEY, HEADER = "/etc/rackwright/tiers/hot.key", "/etc/rackwright/tiers/hot.key.new", SPEC.header_path
UNIT = "/etc/systemd/system/unlock-hot.service"
OPENS = "let the declared key open hot, and the host use it"
SINGLE, COPIED = "take all other keys of hot away", "copy the LUKS header of hot"
CONSENT = "destroy: allowed"


@pytest.fixture
def raw():
    return recorded("sorrel")


@pytest.fixture
def blank(raw):
    """The host before anything was made."""
    emptied(raw)
    return raw


def emptied(raw, spec=SPEC):
    stopped(raw, spec)
    for serial in spec.serials:
        drive(raw, serial).update(FREE, signatures=[], witnesses=[], superblock=None, sample=[])
    raw["owners"] = raw["texts"] = raw["units"] = raw["files"] = raw["luks_copies"] = raw["credentials"] = {}


def closed(raw, spec=SPEC):
    """Close the tier: its filesystem is no longer seen."""
    name = mapping(raw, spec.array_key)["name"]
    for table in ("filesystems", "mounts"):
        without(raw[table], device=name)
    without(raw["mappings"], name=name)


def stopped(raw, spec=SPEC):
    closed(raw, spec)
    name = array(raw, spec.array_key)["name"]
    without(raw["luks_headers"], device=name)
    without(raw["arrays"], name=name)
    for serial in spec.serials:
        drive(raw, serial).update(holders=[], sample=["data 5a5a5a5a5a5a5a5a"], **FREE)


def plain(raw):
    """Let its filesystem be on the array itself, as before there was encryption."""
    name, opened = array(raw, SPEC.array_key)["name"], mapping(raw, SPEC.array_key)["name"]
    for found in (*raw["filesystems"], *raw["mounts"]):
        if found["device"] == opened:
            found["device"] = name
    without(raw["mappings"], name=opened)
    without(raw["luks_headers"], device=name)
    del raw["owners"]["tier-hot"]["luks"]


def another_key(raw):
    """The secret has another value than the one that the host has."""
    raw["files"][KEY]["digest"] = "of the key before"


def planned(raw, repository=STACK.repository, **changes):
    spec, facts = changed(SPEC, **changes), Facts(raw)
    claims = TIER.kind.claims(spec, repository)
    return TIER.kind.plan(spec, comparison.diff(claims, TIER.kind.observe(claims, facts)), facts, repository)


def test_blank_drives_become_an_encrypted_tier(blank):
    plan = planned(blank)

    assert texts(plan) == [
        "note in the owner file: creating",
        f"make the array hot: raid10 over {', '.join(SERIALS)}",
        f"write {KEY}",
        "encrypt hot",
        f"write {UNIT}",
        "reload systemd",
        "open hot",
        COPIED,
        "make xfs on hot",
        "note in the owner file: creating and formatted",
        "write /etc/mdadm/mdadm.conf.d/hot.conf",
        "write /etc/udev/rules.d/62-tier-hot.rules",
        "write /etc/systemd/system/srv-hot.mount",
        "reload systemd",
        "enable srv-hot.mount",
        "mount /srv/hot",
        "note in the owner file: ready",
    ]
    made = plan.steps[8]
    assert made.argv[-1] == "/dev/mapper/tier-hot"
    assert [step.text for step in plan.steps if isinstance(step, Command) and step.creates] == [
        plan.steps[1].text,
        "encrypt hot",
        made.text,
    ]


def test_the_header_is_noted_as_soon_as_there_is_one(blank):
    notes = [step.content for step in planned(blank).steps if isinstance(step, Put) and "owner file" in step.text]

    assert ['"luks": "${luks:sorrel:hot}"' in note for note in notes] == [False, True, True]


def test_the_key_goes_into_a_file_that_root_alone_reads_and_nowhere_else(blank):
    secret = derive_value("hot_key")
    plan = planned(blank)

    [put] = [step for step in plan.steps if isinstance(step, Put) and step.path == KEY]
    assert (base64.b64decode(put.content).decode(), put.mode, put.owner) == (secret, 0o600, "root:root")
    assert not [step for step in plan.steps if isinstance(step, Command) and secret in " ".join(step.argv)]
    assert secret not in repr((plan, TIER.kind.claims(SPEC, STACK.repository), TIER.inputs))


def test_the_boot_does_not_wait_for_what_cannot_be_opened(blank):
    unit, mount = (
        next(step.content for step in planned(blank).steps if getattr(step, "path", "").endswith(end))
        for end in ("unlock-hot.service", "srv-hot.mount")
    )

    device = "dev-disk-by\\x2did-md\\x2dname\\x2dsorrel:hot.device"
    assert f"Requires={device}\nAfter={device} local-fs-pre.target\n" in unit
    assert "[Install]" not in unit
    assert "Requires=unlock-hot.service\nAfter=local-fs-pre.target unlock-hot.service\n" in mount
    assert "What=/dev/disk/by-uuid/${filesystem:/dev/mapper/tier-hot}\n" in mount


def test_without_cryptsetup_nothing_is_begun(blank):
    del blank["packages"]["cryptsetup-bin"]

    assert "Add cryptsetup-bin to base_packages of role base" in refused(planned(blank))


def test_without_the_secret_nothing_is_begun(blank):
    assert "the secret hot_key is not known here" in refused(
        planned(blank, repository=replace(STACK.repository, secrets={}))
    )


def test_a_name_that_is_taken_is_not_closed(blank):
    blank["mappings"].append({"name": "dm-7", "mapped_name": "tier-hot", "on": ["sdz"], "size_bytes": 1})

    assert "a mapping tier-hot is open on sdz" in refused(planned(blank))


@pytest.mark.parametrize("opened", [False, True])
def test_a_half_made_one_is_made_again_up_to_its_filesystem(raw, opened):
    """
    Only where the owner file says that it was never formatted.
    """
    without(raw["mounts"], target="/srv/hot")
    if not opened:
        closed(raw)
    raw["owners"]["tier-hot"] = {"id": "sorrel/hot", "fleet": "sealed", "serials": SERIALS, "phase": "creating"}

    assert texts(planned(raw))[:4] == [
        "note in the owner file: creating",
        f"write {KEY}",
        "encrypt hot",
        f"write {UNIT}",
    ]
    raw["owners"]["tier-hot"] |= {"formatted": True, "luks": header(raw, SPEC.array_key)["uuid"]}
    kept = planned(raw)
    assert not kept.creates
    assert texts(kept)[-2:] == ["mount /srv/hot", "note in the owner file: ready"]


@pytest.mark.parametrize(
    ("break_it", "steps"),
    [
        (closed, ["open hot", "mount /srv/hot"]),
        (lambda raw: header(raw, SPEC.array_key).update(key_slots=2), [SINGLE, COPIED]),
        (lambda raw: copy(raw, SPEC.array_key).update(sequence=1), [COPIED]),
        (lambda raw: (raw["luks_copies"].clear(), raw["files"].pop(HEADER)), [COPIED]),
        (lambda raw: raw["files"][HEADER].update(mode="0644"), [COPIED]),
        (lambda raw: raw["files"].pop(UNIT), [f"write {UNIT}", "reload systemd"]),
        (lambda raw: raw["owners"].pop("tier-hot"), ["note in the owner file: ready"]),
        (
            lambda raw: next(m for m in raw["mounts"] if m["target"] == "/srv/hot").update(options=["ro", "noatime"]),
            ["mount /srv/hot again with noatime,rw"],
        ),
        (stopped, ["assemble the array hot", "open hot", "mount /srv/hot"]),
    ],
    ids=["closed", "another key", "old copy", "no copy", "copy for all", "unit", "owner file", "options", "stopped"],
)
def test_what_can_be_mended_is(raw, break_it, steps):
    break_it(raw)

    plan = planned(raw)

    assert texts(plan) == steps
    assert plan.by_hand == ()


@pytest.mark.parametrize(
    "break_it", [another_key, lambda raw: raw["files"].pop(KEY), lambda raw: raw["files"][KEY].update(mode="0640")]
)
def test_another_key_comes_before_the_old_one_goes(raw, break_it):
    """
    It is never the only one that was not tried, and what stands in files is what opens.
    """
    break_it(raw)

    plan = planned(raw)

    assert texts(plan) == [f"write {NEW_KEY}", OPENS, SINGLE, COPIED]
    assert not plan.creates


def test_another_key_of_a_tier_that_is_closed_opens_it(raw):
    closed(raw)
    another_key(raw)

    assert texts(planned(raw)) == [f"write {NEW_KEY}", OPENS, SINGLE, "open hot", COPIED, "mount /srv/hot"]


def test_who_does_not_know_the_secret_cannot_tell_whether_it_is_the_key(raw):
    repository = replace(STACK.repository, secrets={})
    assert [(item.path, type(item.actual)) for item in planned(raw, repository).by_hand] == [
        (f"file:{KEY}.content", UnknownValue)
    ]
    raw["files"][KEY]["mode"] = "0640"

    assert "the secret hot_key is not known here" in refused(planned(raw, repository))


def test_what_was_made_without_encryption_is_not_encrypted(raw):
    plain(raw)

    refusals = refused(planned(raw))

    assert "sorrel/hot: encryption: the tier is not encrypted, and declared with encryption" in refusals
    assert "Declare another tier on other drives, and move the data there" in refusals
    assert CONSENT not in refusals


def test_what_was_made_with_encryption_keeps_it(raw):
    refusals = refused(planned(raw, key=None))

    assert (
        "the tier is encrypted, and declared without encryption; encryption cannot be removed from a tier" in refusals
    )
    assert CONSENT not in refusals


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (header_made_anew, "the array has the LUKS header another; the header 5ea1ed00"),
        (lambda raw, key: without(raw["luks_headers"], uuid=header(raw, key)["uuid"]), "the array has no LUKS header"),
        (lambda raw, key: header(raw, key).update(version=1), "cryptsetup convert --type luks2 /dev/disk"),
        (opened_as_another, "the tier is open as another; the name tier-hot"),
        (lambda raw, key: raw["owners"]["tier-hot"].pop("luks"), "the owner file names none"),
    ],
)
def test_what_is_not_ours_is_left_to_a_person(raw, break_it, expected):
    break_it(raw, SPEC.array_key)

    assert expected in refused(planned(raw))


def test_a_copy_of_the_header_goes_back_only_where_there_is_none(raw):
    """
    In the place of a header that somebody has made the copy would lose what that one opens.
    """
    header_made_anew(raw, SPEC.array_key)
    assert "luksHeaderRestore" not in refused(planned(raw))
    assert "`cryptsetup luksHeaderBackup`" in refused(planned(raw))

    without(raw["luks_headers"], device=array(raw, SPEC.array_key)["name"])
    path = "/dev/disk/by-id/md-name-sorrel:hot"
    back = f"`cryptsetup luksHeaderRestore --header-backup-file {HEADER} {path}`"
    assert f"only if that finds no header, restore the copy with {back}" in refused(planned(raw))


def test_drives_that_are_encrypted_are_not_overwritten_without_consent(blank):
    signature = {"type": "crypto_LUKS", "uuid": "11", "label": None}
    drive(blank, SERIALS[1]).update(signatures=[signature, signature], witnesses=[None, None], sample=["data 9c1e"])
    content = f"crypto_LUKS 11, data 9c1e, {WRITES}"

    assert f"{SERIALS[1]}: the drive has {content!r}" in refused(planned(blank))
    assert planned(blank, replace(STACK.repository, consents={SERIALS[1]: content})).creates


def test_a_grown_array_grows_what_is_open_and_then_its_filesystem(raw):
    array(raw, SPEC.array_key)["size_bytes"] += 256 << 20

    [step] = planned(raw).steps
    assert step.text == "let the xfs on hot take all that the array has"
    assert '| cryptsetup resize --key-file - "$1"\n' in step.argv[2]
    assert step.argv[4:] == ("tier-hot", KEY, "xfs_growfs", "/srv/hot")


def test_removal_leaves_no_key(raw):
    plan = TIER.kind.removal(SPEC, Facts(raw), STACK.repository, consent=True)

    assert texts(plan)[:12] == [
        "note in the owner file: removing",
        "unmount /srv/hot",
        "remove /etc/systemd/system/srv-hot.mount",
        "reload systemd",
        "close hot",
        "erase all keys of hot",
        f"remove {UNIT}",
        f"remove {KEY}",
        f"remove {HEADER}",
        "reload systemd",
        "erase the LUKS header on hot",
        "stop the array hot",
    ]
    assert plan.steps[5].argv == ("cryptsetup", "luksErase", "--batch-mode", "${device:sorrel:hot}")
    assert plan.steps[5].destroys == ("sorrel/hot: everything on it",)


def test_removal_without_consent_is_refused(raw):
    assert "consent at the tier" in refused(TIER.kind.removal(SPEC, Facts(raw), STACK.repository, consent=False))


@pytest.mark.parametrize(("length", "taken"), [(8, False), (19, False), (20, True)])
def test_a_key_that_could_be_guessed_is_refused_before_a_host_is_asked(length, taken):
    repository = replace(STACK.repository, secrets={**STACK.repository.secrets, SPEC.declared.key: "k" * length})
    if taken:
        TIER.kind.claims(SPEC, repository)
        return
    with pytest.raises(DeclarationError, match=f"the key has {length} characters; at least 20 characters") as refused:
        TIER.kind.claims(SPEC, repository)
    assert "kkk" not in str(refused.value)


def test_a_creation_that_was_cut_off_is_refused_without_the_secret(raw):
    """
    The key lies on the host already, so that it does not differ; it is written once more all the same.
    """
    raw["owners"]["tier-hot"] = {"id": "sorrel/hot", "fleet": "sealed", "serials": SERIALS, "phase": "creating"}

    assert "the secret hot_key is not known here" in refused(
        planned(raw, repository=replace(STACK.repository, secrets={}))
    )
