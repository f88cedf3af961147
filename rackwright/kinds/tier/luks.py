"""The encryption of a tier, between its array and its filesystem: a LUKS2 header, its key, and the open mapping.

The key lies on the boot drive, so that the host opens its tiers by itself: drives without it reveal nothing. A key
that the TPM has sealed reveals nothing without the mainboard either.
"""

import base64
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rackwright.core.contract import Claim, Command, Put, Remove, Step, UnknownValue, Want
from rackwright.core.repository import Repository
from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array, CryptMapping
from rackwright.kinds.shared.secrets import UNKNOWN_SECRET_HELP
from rackwright.kinds.tier import commands
from rackwright.kinds.tier.observe import find_carrier, header_on, mapping_on
from rackwright.kinds.tier.spec import TierSpec
from rackwright.schema.secret import CONFIG_KEY, TIER_KEY_SHORTEST

VERSION = 2
PACKAGE = "cryptsetup-bin"
TPM_LIBRARIES = ("libtss2-esys.so.0", "libtss2-mu.so.0", "libtss2-rc.so.0", "libtss2-tcti-device.so.0")
"""Libraries that systemd loads to use a TPM. Source: systemd 252, src/shared/tpm2-util.c."""
SYSTEMD = 250
"""First version of systemd that seals. Source: its NEWS."""
NEW_MAINBOARD = (
    "another mainboard, or a TPM that was cleared, opens nothing: run up, which has it seal the secret again"
)
ANOTHER_TIER = "Declare another tier on other drives, and move the data there"


def claims(spec: TierSpec, repository: Repository) -> Iterator[Claim]:
    """Yield the claims of an encrypted tier."""
    if spec.declared.key is None:
        return
    header: dict[str, Want] = {
        "version": VERSION,
        "noted": True,
        "mapping": spec.mapping,
        "fills_array": True,
        "key_slots": 1,
        "copied": True,
    }
    yield Claim(f"luks:{spec.array_key}", header)
    key = repository.secrets.get(spec.declared.key)
    unknown_key = UnknownValue(f"it is the secret {spec.declared.key}, which is not known here")
    if key is not None and len(key) < TIER_KEY_SHORTEST:
        raise DeclarationError(
            Diagnostic(
                f"{spec.id}: {CONFIG_KEY}.{spec.declared.key}",
                f"the key has {len(key)} characters",
                f"at least {TIER_KEY_SHORTEST} characters",
                "Run `openssl rand -base64 32`, set its output as the value, and let `up` change the key",
                "facts have a digest of the key, from which a short key could be guessed",
            )
        )
    root_only: dict[str, Want] = {"mode": "0600", "owner": "root:root"}
    yield Claim(f"file:{spec.key_path}", root_only)
    content = {"content": unknown_key if key is None else repository.digest(key)}
    if spec.declared.tpm2:
        credential = f"credential:{spec.key_path}"
        yield Claim(credential, {"sealed_by": "tpm2", "opens": True}, remedy=NEW_MAINBOARD)
        yield Claim(credential, content, secret=True)
        yield Claim(f"file:{spec.other_key_path}", {"present": False})
    else:
        yield Claim(f"file:{spec.key_path}", content, secret=True)
    yield Claim(f"file:{spec.header_path}", root_only)
    unit = {"mode": "0644", "owner": "root:root", "content": repository.digest(unit_text(spec, repository))}
    yield Claim(f"file:{spec.unlock_path}", unit)


def unit_text(spec: TierSpec, repository: Repository) -> str:
    return repository.render(
        "tier/etc/systemd/system/unlock.service.j2",
        id=spec.id,
        device=spec.array_path,
        device_unit=spec.array_unit,
        key=spec.key_path,
        tpm2=spec.declared.tpm2,
        mapping=spec.mapping,
    )


def refusals(spec: TierSpec, facts: Facts, array: Array, owner: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield why an array that runs cannot have the declared encryption."""
    where, uuid = f"{spec.id}: encryption", owner.get("luks")
    if spec.declared.key is None:
        if uuid:
            problem = "the tier is encrypted, and declared without encryption"
            yield Diagnostic(where, problem, help=ANOTHER_TIER, note="encryption cannot be removed from a tier")
        return
    header, mapping = header_on(facts, array), mapping_on(facts, array)
    back = command("cryptsetup luksHeaderRestore --header-backup-file {} {}", spec.header_path, spec.array_path)
    if header is None and uuid is None:
        problem = "the tier is not encrypted, and declared with encryption"
        yield Diagnostic(where, problem, help=ANOTHER_TIER, note="LUKS cannot be added below existing data")
    elif header is None:
        look = f"Look with {command('cryptsetup luksDump {}', spec.array_path)}"
        help = f"{look}; only if that finds no header, restore the copy with {back}"
        yield Diagnostic(
            where,
            "the array has no LUKS header",
            f"the header {uuid}, which the owner file names",
            help,
            id="header-missing",
        )
    elif header.uuid != uuid and owner:
        expected = f"the header {uuid}, which the owner file names" if uuid else "no header: the owner file names none"
        help = (
            "Find out who made that header and what it opens, and copy it with `cryptsetup luksHeaderBackup`; the copy"
            f" of rackwright's header is {spec.header_path}"
        )
        yield Diagnostic(where, f"the array has the LUKS header {header.uuid}", expected, help, id="header-missing")
    elif header.version != VERSION:
        help = (
            "Copy its header with `cryptsetup luksHeaderBackup`, close it, convert it with"
            f" {command('cryptsetup convert --type luks2 {}', spec.array_path)}, and run again"
        )
        yield Diagnostic(where, f"the header is of LUKS{header.version}", f"LUKS{VERSION}", help)
    if mapping and mapping.mapped_name != spec.mapping:
        help = "Unmount and close it by hand, and run again"
        yield Diagnostic(where, f"the tier is open as {mapping.mapped_name}", f"the name {spec.mapping}", help)
    yield from name_refusals(spec, facts, array)


def name_refusals(spec: TierSpec, facts: Facts, array: Array | None) -> Iterator[Diagnostic]:
    """Yield that another mapping has its name."""
    mapping = find_carrier(facts, spec.carrier)
    if isinstance(mapping, CryptMapping) and (array is None or array.name not in mapping.on):
        problem = f"a mapping {spec.mapping} is open on {', '.join(mapping.on)}"
        expected = f"this name only for the mapping on {spec.name}"
        yield Diagnostic(f"{spec.id}: encryption", problem, expected, "Look at its content, and close it by hand")


def preparation_refusals(spec: TierSpec, facts: Facts) -> Iterator[Diagnostic]:
    """Yield why a new tier cannot be encrypted."""
    if spec.declared.key and facts.package(PACKAGE) is None:
        expected = f"the package {PACKAGE}, which makes and opens LUKS"
        help = f"Add {PACKAGE} to base_packages of role base, or install it"
        yield Diagnostic(f"{spec.id}: encryption", "the host has no cryptsetup", expected, help)


def key_refusals(spec: TierSpec, facts: Facts, repository: Repository) -> Iterator[Diagnostic]:
    """Yield why the key cannot be written: its secret is not known here, or the host cannot seal it."""
    where = f"{spec.id}: encryption"
    if spec.declared.key and spec.declared.key not in repository.secrets:
        yield Diagnostic(
            where,
            f"the secret {spec.declared.key} is not known here",
            "the key of the tier",
            UNKNOWN_SECRET_HELP,
            id="secret-unknown",
        )
    if not spec.declared.tpm2:
        return
    if facts.tpm != 2:
        problem = "the host has no TPM" if facts.tpm is None else f"the host has a TPM {facts.tpm}"
        help = "Enable it in the firmware, or remove `tpm2`"
        note = "without `tpm2` the key lies unprotected on the boot drive"
        yield Diagnostic(f"{where}.tpm2", problem, "a TPM 2.0, which seals the key", help, note)
    if missing := [name for name in TPM_LIBRARIES if not facts.library(name)]:
        help = "Add libtss2-esys-3.0.2-0 and libtss2-rc0 (as Debian 12 calls them) to base_packages of role base"
        problem, expected = f"the host has no {', '.join(missing)}", "the libraries through which systemd uses the TPM"
        yield Diagnostic(f"{where}.tpm2", problem, expected, help)
    systemd = facts.package("systemd")
    if systemd and (number := re.match(r"\d+", systemd.version)) and int(number[0]) < SYSTEMD:
        expected = f"systemd {SYSTEMD} or later, which seals keys"
        help = "Remove `tpm2`, or install a newer system on this host"
        yield Diagnostic(f"{where}.tpm2", f"the host has systemd {systemd.version}", expected, help)


def writes_key(spec: TierSpec, things: Collection[str]) -> bool:
    """Return whether the key is written where these things differ."""
    return not {f"file:{spec.key_path}", f"credential:{spec.key_path}"}.isdisjoint(things)


def create_steps(spec: TierSpec, repository: Repository) -> Iterator[Step]:
    """Yield the steps that encrypt an array without content, and open it."""
    yield from _key_steps(spec, repository, spec.key_path)
    yield Command(f"encrypt {spec.name}", commands.encrypt(spec.device, spec.key_path, spec.mapping), creates=True)
    yield from _unit_steps(spec, repository)
    yield _open_step(spec)
    yield _copy_step(spec)


def repair_steps(
    spec: TierSpec, facts: Facts, repository: Repository, paths: Collection[str], opens: bool = False
) -> Iterator[Step]:
    """Yield the steps that make all claims of the encryption hold, except the size, which grows with the filesystem.

    A new key is added and tested, and replaces the old key's file, before the old key is removed. The unit that opens
    the tier keeps reading the old file until the new one exists. So the host can open the tier after an interruption
    at any point, and the next run continues.

    Args:
        paths: Paths of the differences.
        opens: True if it has to be opened, whether or not that differs.
    """
    if spec.declared.key is None:
        return
    luks, things = f"luks:{spec.array_key}", {path.rpartition(".")[0] for path in paths}
    changes, other = writes_key(spec, things), facts.file(spec.other_key_path) is not None
    if changes:
        yield from _key_steps(spec, repository, f"{spec.key_path}.new")
        argv = commands.change_key(spec.device, spec.key_path, spec.name, *([spec.other_key_path] if other else []))
        yield Command(f"let the declared key open {spec.name}, and the host use it", argv)
    if f"file:{spec.unlock_path}" in things:
        yield from _unit_steps(spec, repository)
    if other:
        yield Remove(f"remove {spec.other_key_path}", spec.other_key_path)
    single = changes or f"{luks}.key_slots" in paths
    if single:
        yield Command(
            f"take all other keys of {spec.name} away", commands.single_key(spec.device, spec.key_path, spec.name)
        )
    if opens or f"{luks}.mapping" in paths:
        yield _open_step(spec)
    if single or f"{luks}.copied" in paths or f"file:{spec.header_path}" in things:
        yield _copy_step(spec)


def _key_steps(spec: TierSpec, repository: Repository, path: str) -> Iterator[Step]:
    key = repository.secrets[str(spec.declared.key)].encode()
    written = spec.open_key_path if spec.declared.tpm2 else path
    yield Put(f"write {written}", written, base64.b64encode(key).decode(), 0o600, base64=True)
    if spec.declared.tpm2:
        yield Command(f"have the TPM seal that in {path}", commands.seal(written, path))


def _unit_steps(spec: TierSpec, repository: Repository) -> Iterator[Step]:
    yield Put(f"write {spec.unlock_path}", spec.unlock_path, unit_text(spec, repository))
    yield Command("reload systemd", ("systemctl", "daemon-reload"))


def _open_step(spec: TierSpec) -> Command:
    return Command(f"open {spec.name}", commands.open_mapping(spec.device, spec.key_path, spec.name, spec.unlock_unit))


def _copy_step(spec: TierSpec) -> Command:
    argv = commands.copy_header(spec.device, spec.key_path, spec.name, spec.header_path)
    return Command(f"copy the LUKS header of {spec.name}", argv)


def erase_steps(spec: TierSpec, facts: Facts, array: Array | None) -> Iterator[Step]:
    """Yield the steps that close a tier and erase all of its keys, so that no copy of a drive can be read."""
    unit = facts.file(spec.unlock_path) is not None
    if unit or (array is not None and mapping_on(facts, array) is not None):
        yield Command(f"close {spec.name}", commands.close_mapping(spec.mapping, spec.unlock_unit))
    if array is not None and array.condition != "inactive" and header_on(facts, array):
        argv = ("cryptsetup", "luksErase", "--batch-mode", spec.device)
        yield Command(f"erase all keys of {spec.name}", argv, destroys=(f"{spec.id}: everything on it",))
    files = (spec.key_path, spec.other_key_path, spec.header_path)
    for path in (spec.unlock_path, *files, *(f"{path}.new" for path in files)):
        if facts.file(path) is not None:
            yield Remove(f"remove {path}", path)
    if unit:
        yield Command("reload systemd", ("systemctl", "daemon-reload"))
