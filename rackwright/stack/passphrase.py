"""Which passphrase protects the secrets of a stack: a real rack's are never encrypted with a published one."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rackwright.errors import DeclarationError, DeclarationErrors, SetupError, command
from rackwright.fleet.source import Source
from rackwright.schema.problem import Problem
from rackwright.schema.secret import CONFIG_KEY, LAB_PASSPHRASE, setting

PUBLISHED = {LAB_PASSPHRASE: "the lab's published passphrase", "": "the empty passphrase"}
"""Passphrases that protect nothing, by what they are called."""
SALT, PROVIDER = "encryptionsalt", "secretsprovider"
TEXT, FILE = "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"
ITERATIONS = 1_000_000
"""PBKDF2 with SHA-256, then AES-256-GCM: sdk/go/common/resource/config/crypt.go of pulumi."""
WANT = "the secrets of a real rack have a passphrase of their own, or a secrets provider"
GUIDE = "docs/first-rack.md has the steps"


@cache
def published(salt: str) -> str | None:
    """Return which published passphrase opens *salt*, as pulumi writes it: ``v1:SALT:v1:NONCE:CIPHERTEXT``.

    Raises:
        ValueError: *salt* has another form, so nothing is known of it.
    """
    first, encoded, second, nonce, text = salt.split(":")
    if (first, second) != ("v1", "v1"):
        raise ValueError(salt)
    raw = [base64.b64decode(part, validate=True) for part in (encoded, nonce, text)]
    for passphrase, name in PUBLISHED.items():
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), raw[0], ITERATIONS, 32)
        with suppress(InvalidTag):
            AESGCM(key).decrypt(raw[1], raw[2], None)
            return name
    return None


def published_once(salt: str, project: Path) -> str | None:
    """Return what `published` does, and keep the verdict that none opens *salt*: to try them takes a second.

    Raises:
        ValueError: *salt* has another form.
    """
    tried = hashlib.sha256("\0".join([salt, *PUBLISHED]).encode()).hexdigest()
    kept = project / ".rackwright" / "passphrases" / tried
    if kept.is_file():
        return None
    if found := published(salt):
        return found
    with suppress(OSError):  # a checkout that cannot be written is tried again
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()
    return None


def check(source: Source, stack: str, project: Path) -> None:
    """Check the settings *source* of *stack*, whose target is a real rack.

    Raises:
        DeclarationErrors: a published passphrase opens its salt.
    """
    salt = source.data.get(SALT)
    if salt is None or has_provider(source.data):
        return
    try:
        name = published_once(str(salt), project)
    except ValueError:
        fix = "Use the pulumi that `rackwright toolchain` finds"
        problem = Problem(f"got {salt!r}", "a salt has the form v1:SALT:v1:NONCE:CIPHERTEXT", fix)
        raise DeclarationErrors([source.error(problem, (SALT,))]) from None
    if name:
        listed = source.data.get("config", {}).get(CONFIG_KEY, {})
        problem = Problem(f"got a salt that {name} opens", WANT, reencrypt(stack, name, listed))
        raise DeclarationErrors([source.error(problem, (SALT,))])


def check_state(stack: str, deployment: Mapping[str, object], project: Path) -> None:
    """Check the state of *stack*, whose target is a real rack, as `pulumi stack export` has it.

    Raises:
        DeclarationErrors: a published passphrase opens what it holds.
    """
    providers = deployment.get("secrets_providers")
    if not isinstance(providers, dict) or providers.get("type") != "passphrase":
        return
    where = f"state of stack {stack}"
    try:
        name = published_once(str(providers["state"]["salt"]), project)
    except (KeyError, TypeError, ValueError):
        got, want = "got secrets of an unknown form", "pulumi's salt says which passphrase opens them"
        fix = "Use the pulumi that `rackwright toolchain` finds"
        raise DeclarationErrors([DeclarationError(where, got, want, fix)]) from None
    if name:
        error = DeclarationError(where, f"got secrets that {name} opens", WANT, reencrypt(stack, name, ()))
        raise DeclarationErrors([error])


def reencrypt(stack: str, name: str, secrets: Iterable[str]) -> str:
    """Return the fix for a stack that the published passphrase called *name* opens."""
    old = LAB_PASSPHRASE if name == PUBLISHED[LAB_PASSPHRASE] else ""
    change = command(TEXT + "={} pulumi stack change-secrets-provider passphrase --stack {}", old, stack)
    commands = [f"`{setting(stack, each)}`" for each in secrets]
    rotate = f"then give each secret another value, as the old ones are public: {', '.join(commands)}"
    return f"Run {change}{', ' + rotate if commands else ', then give each secret another value'}; {GUIDE}"


def need_own(source: Source, stack: str, environment: Mapping[str, str]) -> None:
    """Check, before pulumi encrypts anything for the real rack of *stack*, that it does so with a secret passphrase.

    Raises:
        SetupError: there is neither, or the passphrase is a published one.
    """
    if has_provider(source.data):
        return
    where = f"stack {stack}"
    value = given(environment)
    if value in PUBLISHED and not source.data.get(SALT):
        fix = f"Set {FILE} to a file of your own that has another one; {GUIDE}"
        raise SetupError(where, f"got {PUBLISHED[value]} in {TEXT} or {FILE}", WANT, fix)
    if value is None and not source.data.get(SALT):
        got = f"got neither {TEXT} nor {FILE}, and no {PROVIDER} in {source.path}"
        raise SetupError(where, got, WANT, f"Set {FILE} to a file with the passphrase; {GUIDE}")


def has_provider(settings: Mapping[str, object]) -> bool:
    """Return whether a service or a key of the operator's own encrypts the secrets, and no passphrase."""
    return settings.get(PROVIDER) not in (None, "", "passphrase", "default")


def given(environment: Mapping[str, str]) -> str | None:
    """Return the passphrase that pulumi takes from *environment*; None where it takes none.

    Raises:
        SetupError: the file that is named cannot be read.
    """
    if TEXT in environment:
        return environment[TEXT]
    if not (name := environment.get(FILE)):
        return None
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
        want, fix = "it names the file with the passphrase", f"Correct {FILE}"
        raise SetupError(name, f"got {reason}", want, fix) from None
