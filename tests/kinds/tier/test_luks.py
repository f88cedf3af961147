"""A tier that is encrypted: how it is made, opened, given another key, grown and erased, and what is refused."""

import base64
from dataclasses import replace

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Put, UnknownValue
from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.kinds.tier import luks
from rackwright.schema.secret import derive_value
from tests.kinds.tier.conftest import refused, texts
from tests.support.mutations import (
    array,
    copy,
    drive,
    header,
    header_made_anew,
    locked,
    mapping,
    opened_as_another,
    without,
)
from tests.support.recorded_hosts import FREE, RESOURCES, STACK, WRITES, recorded

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
    spec, facts = SPEC.model_copy(update=changes), Facts(raw)
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
    assert "got no secret hot_key" in refused(planned(blank, repository=replace(STACK.repository, secrets={})))


def test_a_name_that_is_taken_is_not_closed(blank):
    blank["mappings"].append({"name": "dm-7", "mapped_name": "tier-hot", "on": ["sdz"], "size_bytes": 1})

    assert "got tier-hot open on sdz" in refused(planned(blank))


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

    assert "got no secret hot_key" in refused(planned(raw, repository))


def test_what_was_made_without_encryption_is_not_encrypted(raw):
    plain(raw)

    told = refused(planned(raw))

    assert "sorrel/hot: encryption: got a tier that is not encrypted; LUKS cannot be put under what is there" in told
    assert "Declare another tier on other drives, and move the data there" in told
    assert CONSENT not in told


def test_what_was_made_with_encryption_keeps_it(raw):
    told = refused(planned(raw, key=None))

    assert "got it encrypted, and declared without; that cannot be taken away" in told
    assert CONSENT not in told


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (header_made_anew, "got the LUKS header another; the owner file notes 5ea1ed00"),
        (lambda raw, key: without(raw["luks_headers"], uuid=header(raw, key)["uuid"]), "got no LUKS header"),
        (lambda raw, key: header(raw, key).update(version=1), "cryptsetup convert --type luks2 /dev/disk"),
        (opened_as_another, "got it open as another; it is called tier-hot"),
        (lambda raw, key: raw["owners"]["tier-hot"].pop("luks"), "the owner file notes none"),
    ],
)
def test_what_is_not_ours_is_left_to_a_person(raw, break_it, told):
    break_it(raw, SPEC.array_key)

    assert told in refused(planned(raw))


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
    assert f"only if that finds no header, put the copy back: {back}" in refused(planned(raw))


def test_drives_that_are_encrypted_are_not_overwritten_without_consent(blank):
    signature = {"type": "crypto_LUKS", "uuid": "11", "label": None}
    drive(blank, SERIALS[1]).update(signatures=[signature, signature], witnesses=[None, None], sample=["data 9c1e"])
    content = f"crypto_LUKS 11, data 9c1e, {WRITES}"

    assert f"{SERIALS[1]}: got {content!r} on it" in refused(planned(blank))
    assert planned(blank, replace(STACK.repository, consents={SERIALS[1]: content})).creates


def test_a_grown_array_grows_what_is_open_and_then_its_filesystem(raw):
    array(raw, SPEC.array_key)["size_bytes"] += 256 << 20

    [step] = planned(raw).steps
    assert step.text == "let the xfs on hot take all that the array has"
    assert '| cryptsetup resize --key-file - "$1"\n' in step.argv[2]
    assert step.argv[4:] == ("tier-hot", KEY, "xfs_growfs", "/srv/hot")


def test_removal_leaves_nobody_a_key(raw):
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
    assert "only with consent" in refused(TIER.kind.removal(SPEC, Facts(raw), STACK.repository, consent=False))


# --- a key that the TPM seals -----------------------------------------------------------------------------------------


SEALED = RESOURCES["sorrel/warm"].spec
CREDENTIAL, OPEN_KEY, MEMORY = "/etc/rackwright/tiers/warm.cred", "/etc/rackwright/tiers/warm.key", SEALED.open_key_path
WARM_UNIT = SEALED.unlock_path
RESEAL = [
    f"write {MEMORY}",
    f"have the TPM seal that in {CREDENTIAL}.new",
    "let the declared key open warm, and the host use it",
]
REST = ["take all other keys of warm away", "copy the LUKS header of warm"]


def sealed_differences(raw, repository=STACK.repository, spec=SEALED):
    claims = TIER.kind.claims(spec, repository)
    return comparison.diff(claims, TIER.kind.observe(claims, Facts(raw)))


def sealed_plan(raw, repository=STACK.repository, spec=SEALED):
    return TIER.kind.plan(spec, sealed_differences(raw, repository, spec), Facts(raw), repository)


def unsealed(raw):
    """Let it be as it was declared without tpm2."""
    spec, repository = SEALED.model_copy(update={"tpm2": False}), STACK.repository
    entry = raw["files"].pop(CREDENTIAL)
    raw["credentials"].clear()
    raw["files"][OPEN_KEY] = {**entry, "digest": repository.digest(repository.secrets["warm_key"])}
    raw["files"][WARM_UNIT]["digest"] = repository.digest(luks.unit_text(spec, repository))


def test_blank_drives_become_a_tier_whose_key_no_drive_has(raw):
    emptied(raw, SEALED)

    plan = sealed_plan(raw)

    assert texts(plan)[2:7] == [
        f"write {MEMORY}",
        f"have the TPM seal that in {CREDENTIAL}",
        "encrypt warm",
        f"write {WARM_UNIT}",
        "reload systemd",
    ]
    secret = derive_value("warm_key")
    [put] = [step for step in plan.steps if isinstance(step, Put) and "key" in step.path]
    assert (base64.b64decode(put.content).decode(), put.mode, put.path) == (secret, 0o600, "/run/rackwright/warm.key")
    assert plan.steps[3].argv[-2:] == (MEMORY, CREDENTIAL)
    assert secret not in repr(plan)
    del raw["libraries"]["libtss2-rc.so.0"]
    assert "got no libtss2-rc.so.0; systemd asks the TPM by them. Add libtss2-esys" in refused(sealed_plan(raw))


def test_the_unit_has_the_key_of_systemd():
    unit, other = luks.unit_text(SEALED, STACK.repository), luks.unit_text(SPEC, STACK.repository)

    assert "LoadCredentialEncrypted=warm.cred:/etc/rackwright/tiers/warm.cred\n" in unit
    assert "--key-file ${CREDENTIALS_DIRECTORY}/warm.cred /dev/disk" in unit
    assert "tpm" not in other.lower()
    assert "Credential" not in other


@pytest.mark.parametrize(
    "break_it",
    [
        lambda raw: locked(raw, CREDENTIAL),
        lambda raw: raw["credentials"][CREDENTIAL].update(sealed_by="other"),
        lambda raw: raw["credentials"][CREDENTIAL].update(digest="of the key before"),
        lambda raw: (raw["credentials"].clear(), raw["files"].pop(CREDENTIAL)),
        lambda raw: raw["files"][CREDENTIAL].update(mode="0644"),
    ],
    ids=["another mainboard", "sealed by less", "another key", "no file", "mode"],
)
def test_what_the_tpm_does_not_open_to_the_declared_key_is_sealed_anew(raw, break_it):
    break_it(raw)

    plan = sealed_plan(raw)

    assert (texts(plan), plan.by_hand) == ([*RESEAL, *REST], ())


def test_after_another_mainboard_it_is_opened_too(raw):
    locked(raw, CREDENTIAL)
    closed(raw, SEALED)

    assert texts(sealed_plan(raw)) == [*RESEAL, REST[0], "open warm", REST[1], "mount /srv/warm"]


def test_going_to_the_tpm_the_unit_follows_the_sealed_key_and_the_open_one_goes_last(raw):
    """
    Cut off anywhere, the unit that is there reads a file that is there.
    """
    unsealed(raw)

    plan = sealed_plan(raw)

    assert texts(plan) == [*RESEAL, f"write {WARM_UNIT}", "reload systemd", f"remove {OPEN_KEY}", *REST]
    assert plan.steps[2].argv[-2:] == (CREDENTIAL, OPEN_KEY)


def test_an_open_key_that_was_left_is_a_difference_and_goes(raw):
    raw["files"][OPEN_KEY] = dict(raw["files"][CREDENTIAL])

    assert [item.path for item in sealed_differences(raw)] == [f"file:{OPEN_KEY}.present"]
    assert texts(sealed_plan(raw)) == [f"remove {OPEN_KEY}"]


def test_going_back_from_the_tpm_asks_for_none(raw):
    raw["tpm"] = None

    plan = sealed_plan(raw, spec=SEALED.model_copy(update={"tpm2": False}))

    assert texts(plan) == [
        f"write {OPEN_KEY}.new",
        RESEAL[2],
        f"write {WARM_UNIT}",
        "reload systemd",
        f"remove {CREDENTIAL}",
        *REST,
    ]


@pytest.mark.parametrize(
    ("take_away", "told"),
    [
        (lambda raw: raw.update(tpm=None), "got no TPM; a TPM 2.0 seals the key. Switch it on in the firmware"),
        (lambda raw: raw.update(tpm=1), "got a TPM 1; a TPM 2.0"),
        (lambda raw: raw["libraries"].clear(), "got no libtss2-esys.so.0, libtss2-mu.so.0, libtss2-rc.so.0, libtss2-"),
        (lambda raw: raw["packages"].update(systemd="249.11-0ubuntu3"), "got systemd 249.11-0ubuntu3; 250 is the"),
        (lambda raw: raw.pop("tpm"), "got no answer"),
    ],
)
def test_a_host_that_cannot_seal_is_told_before_anything_is_begun(raw, take_away, told):
    unsealed(raw)
    take_away(raw)

    assert told in refused(sealed_plan(raw))


def test_a_key_that_is_sealed_needs_no_secret_until_it_has_to_be_sealed_anew(raw):
    repository = replace(STACK.repository, secrets={})
    left = sealed_plan(raw, repository)
    assert (left.steps, [item.path for item in left.by_hand]) == ((), [f"credential:{CREDENTIAL}.content"])
    locked(raw, CREDENTIAL)

    assert "got no secret warm_key" in refused(sealed_plan(raw, repository))


def test_removal_leaves_no_sealed_key(raw):
    said = texts(TIER.kind.removal(SEALED, Facts(raw), STACK.repository, consent=True))

    assert said.index("erase all keys of warm") < said.index(f"remove {CREDENTIAL}")
    raw["files"][OPEN_KEY] = dict(raw["files"][CREDENTIAL])
    assert f"remove {OPEN_KEY}" in texts(TIER.kind.removal(SEALED, Facts(raw), STACK.repository, consent=True))


@pytest.mark.parametrize(("length", "taken"), [(8, False), (19, False), (20, True)])
def test_a_key_that_could_be_guessed_is_refused_before_a_host_is_asked(length, taken):
    repository = replace(STACK.repository, secrets={**STACK.repository.secrets, SPEC.key: "k" * length})
    if taken:
        TIER.kind.claims(SPEC, repository)
        return
    with pytest.raises(
        DeclarationError, match=f"got {length} characters; the key of a tier is a text of 20"
    ) as refused:
        TIER.kind.claims(SPEC, repository)
    assert "kkk" not in str(refused.value)
