"""The check that the host itself gave its facts: they are signed with its SSH host key, which known_hosts pins."""

import base64
import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.foreign import excerpt, parse_json
from rackwright.hosts.pins import accepts_without_proof, fingerprint, pinned_keys
from rackwright.schema.ssh import Endpoint

NAMESPACE = b"rackwright-facts"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
SIGNATURE_BYTES = 8192
"""Maximum length of a signature; that of an RSA key of 16384 bits is shorter."""
HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_SIGN = "Make host keys in /etc/ssh with `ssh-keygen -A` at the console of the host, and pin one of them"
PROOFS = 8
"""Maximum number of proofs in facts; a host has three keys."""


class _NotSigned(Exception):
    """A proof is damaged, or its signature is wrong; the message says how."""


def check_answer(
    facts: Facts,
    endpoint: Endpoint,
    others: Mapping[str, Endpoint],
    nonce: str = "",
    *,
    is_saved: bool = False,
) -> None:
    """Require that the host of *endpoint* gave *facts*.

    Facts of an older probe have no place for a proof. Saved ones are accepted where the file of pins says so.

    Args:
        others: The endpoints of all hosts, to find the one that answered in the place of another.
        nonce: The number that was sent to the probe; empty for facts that were taken earlier, or by an installed probe.
        is_saved: Whether the facts come from a snapshot. A host that answers now has the present probe.

    Raises:
        HostUnreachable: another host or an unknown key signed them, or there is no signature.
    """
    host, own = endpoint.host, {*pinned_keys(endpoint).values()}
    if not own:
        return
    try:
        proofs = facts.proofs
        reason = "it signed nothing"
    except UnknownFact as error:
        proofs, reason = (), str(error)
    if not proofs:
        _require_exception(facts, endpoint, excerpt(reason), is_saved)
        return
    keys = []
    for text, signature in proofs[:PROOFS]:
        try:
            key = _signer(text.encode(), signature)
            _check_text(facts, parse_json(text), nonce)
        except (
            Exception
        ) as reason:  # the host chose every byte, and libraries raise what they like: it ends its own answer
            raise _refusal(host, f"the proof of its identity is not valid: {excerpt(reason)}") from None
        keys.append(key)
    if own & {*keys}:
        return
    names = sorted(name for name, each in others.items() if {*pinned_keys(each).values()} & {*keys})
    shown = ", ".join(fingerprint(key) for key in keys)
    raise _refusal(host, f"answers as {' or '.join(names)}" if names else f"answers with the unknown key {shown}")


def _require_exception(facts: Facts, endpoint: Endpoint, reason: str, is_saved: bool) -> None:
    """Return for saved facts of a probe from before the proofs, if the operator accepts such facts of this host.

    Nothing that the facts say about their own age decides it: an impostor writes what it likes.
    """
    if facts.has("proofs"):
        problem, help = f"gives no proof of its identity: {reason}", _SIGN
    elif is_saved and accepts_without_proof(endpoint):
        return
    else:
        problem = "gives no proof of its identity, as a probe from before the proofs"
        help = "Run `rackwright up`, which installs the present probe: `rackwright explain answers-without-proof`"
    note = "the facts may be those of another host, and were not compared"
    expected = f"facts that are signed with the SSH host key of {endpoint.host}"
    raise HostUnreachable(Diagnostic(endpoint.host, problem, expected, help, note, id="answers-without-proof"))


def _refusal(host: str, problem: str) -> HostUnreachable:
    return HostUnreachable(
        Diagnostic(
            host,
            problem,
            f"facts that are signed with the SSH host key of {host}",
            "Find out which machine has this address, and whether two hosts share a key or a disk image",
            "the facts say nothing about this host, and were not compared",
            id="answers-as-another",
        )
    )


def _check_text(facts: Facts, signed: Any, nonce: str) -> None:
    identity = facts.identity
    wanted = [nonce, facts.taken_at, facts.boot_id, identity.machine_id, identity.hostname]
    if not isinstance(signed, list) or len(signed) != len(wanted) or signed[1:] != wanted[1:]:
        raise _NotSigned("it is about other facts")
    if nonce and signed[0] != nonce:
        raise _NotSigned("it is the answer to another request")


def _signer(text: bytes, armoured: str) -> bytes:
    """Return the public key that signed *text*. Source: OpenSSH, PROTOCOL.sshsig."""
    import paramiko

    lines = armoured.strip().splitlines()
    if len(armoured) > SIGNATURE_BYTES or len(lines) < 3 or (lines[0], lines[-1]) != (BEGIN, END):
        raise _NotSigned("it is no signature of ssh-keygen")
    blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    if blob[:6] != b"SSHSIG" or struct.unpack_from(">I", blob, 6)[0] != 1:
        raise _NotSigned("it has an unknown version")
    public, namespace, reserved, hash_name, signature = _strings(blob[10:], 5)
    if namespace != NAMESPACE or hash_name not in HASHES:
        raise _NotSigned("it was made for another purpose")
    digest = HASHES[hash_name](text).digest()
    signed = b"SSHSIG" + b"".join(
        struct.pack(">I", len(part)) + part for part in (namespace, reserved, hash_name, digest)
    )
    [kind] = _strings(public, 1)
    try:
        key = paramiko.PKey.from_type_string(kind.decode(), public)
        is_right = key.verify_ssh_sig(signed, paramiko.Message(signature))
    except (paramiko.SSHException, UnicodeDecodeError) as error:
        raise _NotSigned(str(error)) from None
    if not is_right:
        raise _NotSigned("its signature is wrong")
    return public


def _strings(rest: bytes, count: int) -> Iterator[bytes]:
    """Yield the first *count* strings of SSH's wire format."""
    for _ in range(count):
        [length] = struct.unpack_from(">I", rest)
        if length > len(rest) - 4:
            raise _NotSigned("it is truncated")
        yield rest[4 : 4 + length]
        rest = rest[4 + length :]
