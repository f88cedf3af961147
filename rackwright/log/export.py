"""The files of an exported log, which an auditor checks with rackwright or with ssh-keygen alone."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from rackwright.log.chain import Chain
from rackwright.log.keys import NAMESPACE, armor

ENTRIES, SIGNERS, HEAD, SIGNATURE = "operations.jsonl", "signers", "head.json", "head.json.sig"


def files(content: bytes, chain: Chain) -> dict[str, bytes]:
    """Return the content of each file by name; a log without a whole entry has no head."""
    keys = chain.state.keys.values()
    signers = "".join(f'operations-log namespaces="{NAMESPACE}" {state.key.text}\n' for state in keys)
    exported = {ENTRIES: content, SIGNERS: signers.encode()}
    if chain.lines:
        last = chain.lines[-1]
        signature = armor(chain.state.keys[last.key].key, last.signature)
        exported |= {HEAD: last.head, SIGNATURE: signature.encode()}
    return exported


def commands(directory: Path) -> Iterator[str]:
    """Yield the commands that check the files in *directory*."""
    entries, signers, head, signature = (
        shlex.quote(str(directory / name)) for name in (ENTRIES, SIGNERS, HEAD, SIGNATURE)
    )
    yield f"rackwright log verify {entries} --signers {signers}"
    yield f"ssh-keygen -Y verify -n {NAMESPACE} -I operations-log -f {signers} -s {signature} < {head}"
