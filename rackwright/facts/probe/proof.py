"""The proof of who answers: the host signs its identity and the caller's number with its own SSH host key.

Another host can repeat the facts of a host, and the proof in them shows whose they are. It cannot sign with the key.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, List, Tuple

from rackwright.facts.probe.observe import ENVIRONMENT, FOLDER, ReadError, end_process, hanging, unwrap

KEYS = {
    "ssh-ed25519": "/etc/ssh/ssh_host_ed25519_key",
    "ecdsa-sha2-nistp256": "/etc/ssh/ssh_host_ecdsa_key",
    "ssh-rsa": "/etc/ssh/ssh_host_rsa_key",
}
"""Files of the host's keys, by type. Source: sshd_config(5), HostKey."""
NAMESPACE = "rackwright-facts"
"""Namespace of the signature, so that it is valid for no other purpose. Source: ssh-keygen(1), -Y sign."""
SECONDS = 20


Started = List[Tuple[str, str, "subprocess.Popen[bytes]"]]
"""The keys, the text that each signs, and the process that signs."""


def begin(root: str, nonce: str, types: list[str], identity: Any, boot_id: Any, taken_at: float) -> Started:
    """Begin to sign the host's identity, while other facts are read.

    Args:
        types: The types of keys that the caller knows: one of them is enough. Empty for all keys of the host.

    Raises:
        ReadError: the host has no key.
    """
    known = unwrap(identity)
    text = json.dumps([nonce, taken_at, unwrap(boot_id), unwrap(known["machine_id"]), unwrap(known["hostname"])])
    keys = {kind: path for kind, path in KEYS.items() if os.path.exists(root + path)}
    if not keys:
        raise ReadError("the host has no SSH host key in /etc/ssh")
    shared = [path for kind, path in keys.items() if kind in types]
    return [(key, text, start(root + key, text)) for key in shared[:1] or keys.values()]


def end(started: Started) -> list[dict[str, str]]:
    """Return each signature, with the text that is signed.

    Raises:
        ReadError: ssh-keygen does not sign.
    """
    return [{"text": text, "signature": finish(key, process)} for key, text, process in started]


def start(key: str, text: str) -> subprocess.Popen[bytes]:
    """Begin to sign *text*; all keys sign at the same time."""
    process = subprocess.Popen(
        ("ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", key),
        env=ENVIRONMENT,
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    process.stdin = None
    return process


def finish(key: str, process: subprocess.Popen[bytes]) -> str:
    try:
        output, error = process.communicate(timeout=hanging.seconds(SECONDS))
    except subprocess.TimeoutExpired as late:
        end_process(process)
        raise ReadError(f"ssh-keygen did not sign with {key} within {late.timeout:g} s") from None
    if process.returncode:
        raise ReadError(f"ssh-keygen did not sign with {key}: {error.decode(errors='replace').strip()[:200]}")
    return output.decode()
