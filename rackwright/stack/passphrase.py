"""The check that no published passphrase protects the secrets of a real rack's stack."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from rackwright.errors import DeclarationError, Diagnostic, SetupError, command
from rackwright.fleet.source import Source
from rackwright.schema.problem import Problem
from rackwright.schema.secret import CONFIG_KEY, LAB_PASSPHRASE, setting_command

PUBLISHED_PASSPHRASES = {LAB_PASSPHRASE: "the lab's published passphrase", "": "the empty passphrase"}
"""Names of the passphrases that protect nothing, by passphrase."""
SALT, PROVIDER = "encryptionsalt", "secretsprovider"
TEXT, FILE = "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"
ITERATIONS = 1_000_000
"""Rounds of PBKDF2 with SHA-256, before AES-256-GCM. Source: pulumi, sdk/go/common/resource/config/crypt.go."""
WANT = "the secrets of a real rack need a private passphrase or a secrets provider"
GUIDE = "`rackwright explain passphrase-unsafe` has the steps"


@cache
def match_published(salt: str) -> str | None:
    """Return the name of the published passphrase that opens *salt*, pulumi's ``v1:SALT:v1:NONCE:CIPHERTEXT``, or None.

    Raises:
        ValueError: *salt* has another form and cannot be checked.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    first, encoded, second, nonce, text = salt.split(":")
    if (first, second) != ("v1", "v1"):
        raise ValueError(salt)
    raw = [base64.b64decode(part, validate=True) for part in (encoded, nonce, text)]
    for passphrase, name in PUBLISHED_PASSPHRASES.items():
        key = _derive_key(passphrase, raw[0])
        with suppress(InvalidTag):
            AESGCM(key).decrypt(raw[1], raw[2], None)
            return name
    return None


def open_secrets(source: Source, names: Iterable[str], passphrase: str) -> dict[str, str]:
    """Return the secrets *names* by name from the settings *source*, without those that *passphrase* does not open."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    entries = source.data.get("config", {}).get(CONFIG_KEY, {})
    salt = str(source.data.get(SALT, "")).split(":")
    if has_provider(source.data) or len(salt) != 5:
        return {}
    opened = {}
    with suppress(InvalidTag, ValueError):
        key = _derive_key(passphrase, base64.b64decode(salt[1], validate=True))
        for name in names:
            nonce, text = (base64.b64decode(part, validate=True) for part in entries[name]["secure"].split(":")[1:])
            opened[name] = AESGCM(key).decrypt(nonce, text, None).decode()
    return opened


def _derive_key(passphrase: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ITERATIONS, 32)


def match_published_once(salt: str, project: Path) -> str | None:
    """Return the result of `match_published`, and cache on disk that none opens *salt*, because a try takes a second.

    Raises:
        ValueError: *salt* has another form.
    """
    key = hashlib.sha256("\0".join([salt, *PUBLISHED_PASSPHRASES]).encode()).hexdigest()
    marker = project / ".rackwright" / "passphrases" / key
    if marker.is_file():
        return None
    if name := match_published(salt):
        return name
    with suppress(OSError):  # in a read-only checkout, the next run tries again
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return None


def check(source: Source, stack: str, project: Path) -> None:
    """Check the salt in the settings *source* of *stack*, whose target is a real rack.

    Raises:
        DeclarationError: a published passphrase opens the salt, or the salt has another form.
    """
    salt = source.data.get(SALT)
    if salt is None or has_provider(source.data):
        return
    try:
        name = match_published_once(str(salt), project)
    except ValueError:
        help = "Use the pulumi that `rackwright toolchain` finds"
        problem = Problem(f"got {salt!r}", "a salt has the form v1:SALT:v1:NONCE:CIPHERTEXT", help)
        raise DeclarationError(source.error(problem, (SALT,))) from None
    if name:
        names = source.data.get("config", {}).get(CONFIG_KEY, {})
        problem = Problem(f"got a salt that {name} opens", WANT, reencrypt_fix(stack, name, names))
        raise DeclarationError(source.error(problem, (SALT,)))


def check_state(stack: str, deployment: Mapping[str, object], project: Path) -> None:
    """Check the state of *stack*, whose target is a real rack, from `pulumi stack export`.

    Raises:
        DeclarationError: a published passphrase opens the secrets, or they have an unknown form.
    """
    providers = deployment.get("secrets_providers")
    if not isinstance(providers, dict) or providers.get("type") != "passphrase":
        return
    where = f"state of stack {stack}"
    try:
        name = match_published_once(str(providers["state"]["salt"]), project)
    except (KeyError, TypeError, ValueError):
        problem, expected = "got secrets of an unknown form", "pulumi's salt identifies the passphrase that opens them"
        help = "Use the pulumi that `rackwright toolchain` finds"
        raise DeclarationError(Diagnostic(where, problem, expected, help)) from None
    if name:
        error = Diagnostic(
            where, f"got secrets that {name} opens", WANT, reencrypt_fix(stack, name, ()), id="passphrase-unsafe"
        )
        raise DeclarationError(error)


def reencrypt_fix(stack: str, name: str, secrets: Iterable[str]) -> str:
    """Return the fix for a stack whose secrets the published passphrase with that *name* opens."""
    old = LAB_PASSPHRASE if name == PUBLISHED_PASSPHRASES[LAB_PASSPHRASE] else ""
    change = command(TEXT + "={} pulumi stack change-secrets-provider passphrase --stack {}", old, stack)
    commands = [f"`{setting_command(stack, each)}`" for each in secrets]
    rotate = f"then set a new value for each secret, as the old values are public: {', '.join(commands)}"
    return f"Run {change}{', ' + rotate if commands else ', then set a new value for each secret'};  {GUIDE}"


def require_own_passphrase(source: Source, stack: str, environment: Mapping[str, str]) -> None:
    """Check that pulumi will encrypt the secrets of *stack*, a real rack, with a private passphrase or a provider.

    Raises:
        SetupError: the environment has no passphrase, or a published one.
    """
    if has_provider(source.data):
        return
    where = f"stack {stack}"
    value = read_passphrase(environment)
    if value in PUBLISHED_PASSPHRASES and not source.data.get(SALT):
        help = f"Set {FILE} to your own file with another passphrase; {GUIDE}"
        raise SetupError(
            Diagnostic(
                where, f"got {PUBLISHED_PASSPHRASES[value]} in {TEXT} or {FILE}", WANT, help, id="passphrase-unsafe"
            )
        )
    if value is None and not source.data.get(SALT):
        problem = f"got neither {TEXT} nor {FILE}, and no {PROVIDER} in {source.path}"
        raise SetupError(
            Diagnostic(
                where, problem, WANT, f"Set {FILE} to a file with the passphrase; {GUIDE}", id="passphrase-unsafe"
            )
        )


def has_provider(settings: Mapping[str, object]) -> bool:
    """Return whether a service or a key of the operator encrypts the secrets, instead of a passphrase."""
    return settings.get(PROVIDER) not in (None, "", "passphrase", "default")


def read_passphrase(environment: Mapping[str, str]) -> str | None:
    """Return the passphrase that pulumi takes from *environment*; None if there is none.

    Raises:
        SetupError: the passphrase file cannot be read.
    """
    if TEXT in environment:
        return environment[TEXT]
    if not (name := environment.get(FILE)):
        return None
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
        expected, help = f"{FILE} names a readable file with the passphrase", f"Correct {FILE}"
        raise SetupError(Diagnostic(name, f"got {reason}", expected, help)) from None
