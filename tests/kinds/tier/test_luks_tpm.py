"""A tier whose key the TPM has sealed: how it is sealed, opened, changed and removed."""

import base64
from dataclasses import replace

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Put
from rackwright.facts.facts import Facts
from rackwright.kinds.tier import luks
from rackwright.schema.secret import derive_value
from tests.kinds.tier.conftest import refused, texts
from tests.kinds.tier.test_luks import SPEC, TIER, closed, emptied
from tests.support.mutations import lock_to_other_tpm
from tests.support.recorded_hosts import RESOURCES, STACK, recorded
from tests.support.tier_spec import changed

SEALED = RESOURCES["sorrel/warm"].spec
CREDENTIAL, OPEN_KEY, MEMORY = "/etc/rackwright/tiers/warm.cred", "/etc/rackwright/tiers/warm.key", SEALED.open_key_path
WARM_UNIT = SEALED.unlock_path
RESEAL = [
    f"write {MEMORY}",
    f"have the TPM seal that in {CREDENTIAL}.new",
    "let the declared key open warm, and the host use it",
]
REST = ["take all other keys of warm away", "copy the LUKS header of warm"]


@pytest.fixture
def raw():
    return recorded("sorrel")


def sealed_differences(raw, repository=STACK.repository, spec=SEALED):
    claims = TIER.kind.claims(spec, repository)
    return comparison.diff(claims, TIER.kind.observe(claims, Facts(raw)))


def sealed_plan(raw, repository=STACK.repository, spec=SEALED):
    return TIER.kind.plan(spec, sealed_differences(raw, repository, spec), Facts(raw), repository)


def unsealed(raw):
    """Let it be as it was declared without tpm2."""
    spec, repository = changed(SEALED, tpm2=False), STACK.repository
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
    assert (
        "the host has no libtss2-rc.so.0; the libraries through which systemd uses the TPM. Add libtss2-esys"
        in refused(sealed_plan(raw))
    )


def test_the_unit_has_the_key_of_systemd():
    unit, other = luks.unit_text(SEALED, STACK.repository), luks.unit_text(SPEC, STACK.repository)

    assert "LoadCredentialEncrypted=warm.cred:/etc/rackwright/tiers/warm.cred\n" in unit
    assert "--key-file ${CREDENTIALS_DIRECTORY}/warm.cred /dev/disk" in unit
    assert "tpm" not in other.lower()
    assert "Credential" not in other


@pytest.mark.parametrize(
    "break_it",
    [
        lambda raw: lock_to_other_tpm(raw, CREDENTIAL),
        lambda raw: raw["credentials"][CREDENTIAL].update(sealed_by="other"),
        lambda raw: raw["credentials"][CREDENTIAL].update(digest="of the key before"),
        lambda raw: (raw["credentials"].clear(), raw["files"].pop(CREDENTIAL)),
        lambda raw: raw["files"][CREDENTIAL].update(mode="0644"),
    ],
    ids=["another mainboard", "sealed by less", "another key", "no file", "mode"],
)
def test_a_key_that_the_tpm_does_not_open_is_sealed_again(raw, break_it):
    break_it(raw)

    plan = sealed_plan(raw)

    assert (texts(plan), plan.by_hand) == ([*RESEAL, *REST], ())


def test_after_another_mainboard_it_is_opened_too(raw):
    lock_to_other_tpm(raw, CREDENTIAL)
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

    plan = sealed_plan(raw, spec=changed(SEALED, tpm2=False))

    assert texts(plan) == [
        f"write {OPEN_KEY}.new",
        RESEAL[2],
        f"write {WARM_UNIT}",
        "reload systemd",
        f"remove {CREDENTIAL}",
        *REST,
    ]


@pytest.mark.parametrize(
    ("take_away", "expected"),
    [
        (lambda raw: raw.update(tpm=None), "the host has no TPM; a TPM 2.0, which seals the key"),
        (lambda raw: raw.update(tpm=1), "the host has a TPM 1; a TPM 2.0"),
        (
            lambda raw: raw["libraries"].clear(),
            "the host has no libtss2-esys.so.0, libtss2-mu.so.0, libtss2-rc.so.0, libtss2-",
        ),
        (
            lambda raw: raw["packages"].update(systemd="249.11-0ubuntu3"),
            "the host has systemd 249.11-0ubuntu3; systemd 250 or later",
        ),
        (lambda raw: raw.pop("tpm"), "a fact is unknown"),
    ],
)
def test_a_host_that_cannot_seal_is_reported_before_the_first_step(raw, take_away, expected):
    unsealed(raw)
    take_away(raw)

    assert expected in refused(sealed_plan(raw))


def test_a_sealed_key_needs_no_secret_until_it_is_sealed_again(raw):
    repository = replace(STACK.repository, secrets={})
    left = sealed_plan(raw, repository)
    assert (left.steps, [item.path for item in left.by_hand]) == ((), [f"credential:{CREDENTIAL}.content"])
    lock_to_other_tpm(raw, CREDENTIAL)

    assert "the secret warm_key is not known here" in refused(sealed_plan(raw, repository))


def test_removal_leaves_no_sealed_key(raw):
    steps = texts(TIER.kind.removal(SEALED, Facts(raw), STACK.repository, consent=True))

    assert steps.index("erase all keys of warm") < steps.index(f"remove {CREDENTIAL}")
    raw["files"][OPEN_KEY] = dict(raw["files"][CREDENTIAL])
    assert f"remove {OPEN_KEY}" in texts(TIER.kind.removal(SEALED, Facts(raw), STACK.repository, consent=True))
