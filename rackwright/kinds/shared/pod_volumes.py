"""The names of the volumes of pods: admission policies and the pods themselves know them from here."""

import re

READS = "reads"
"""Begin of the names of volumes with a directory that a run reads; the digest of its path follows."""
OUT = "out"
"""Volume that the pods of a run write to."""
CLAIM_PATTERN = rf"^(run|server)-.+-(system|environment|files|data|{READS}-[0-9a-f]{{8}}|{OUT})-[0-9a-f]{{8}}$"
"""Pattern of the names of rackwright's claims. Their volumes belong to claims of these names and to no others. `data`
is that of earlier versions."""
OUTPUT_PATTERN = rf"-{OUT}-[0-9a-f]{{8}}$"
"""Pattern of the names of claims that pods of a run write to."""


def claim_name(owner: str, volume: str, digest: str) -> str:
    """Return the name of the claim of a volume of *owner*.

    Raises:
        ValueError: The policies would not know it.
    """
    name = f"{owner}-{volume}-{digest}"
    if not re.search(CLAIM_PATTERN, name):
        raise ValueError(f"{name} is no name of a claim that the admission policies know")
    return name
