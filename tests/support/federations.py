"""Small federations for tests: terms, transcripts without a training, and keys that sign them."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workloads.federation import transcript as transcripts
from workloads.federation.config import Terms
from workloads.federation.messages import RoundRequest, Statement
from workloads.federation.transcript import Entry, Transcript

SITES = ("a", "b", "c", "d")


def terms(**changes: Any) -> Terms:
    values = {"federation": "wards", "members": SITES, "rounds": 3, "clip_norm": 2.0, "code": digest("code")}
    return Terms(**{**values, "recipe": digest("recipe"), **changes})  # type: ignore[arg-type]


def digest(text: str) -> str:
    """Return a digest that is different for each *text*."""
    return text.encode().hex().rjust(64, "0")[:64]


def statement(round: int, excluded: Mapping[str, str] | None = None) -> Statement:
    excluded = dict(excluded or {})
    updates = {site: digest(f"{site}{round}") for site in SITES}
    return Statement(round=round, updates=updates, excluded=excluded, model=digest(f"model{round}"))


def transcript(site: str, rounds: int = 3, **changes: Any) -> Transcript:
    """Return the transcript of *site* in a federation without contradictions."""
    entries = tuple(
        Entry(
            request=RoundRequest(
                round=round,
                terms=terms(**changes),
                model=digest(f"model{round - 1}"),
                statement=statement(round - 1) if round > 1 else None,
            ),
            update=digest(f"{site}{round}"),
        )
        for round in range(1, rounds + 1)
    )
    return Transcript(site=site, entries=entries, conclusion=statement(rounds))


def write_signed(directory: Path, several: Sequence[Transcript]) -> tuple[list[Path], Path]:
    """Write *several* transcripts with their signatures; return their paths and the file of signers."""
    paths, lines = [], []
    for each in several:
        folder = directory / f"{each.site}-{len(paths)}"
        folder.mkdir(parents=True)
        key = directory / f"{each.site}.key"
        if not key.exists():
            subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
            lines.append(f"{each.site} {key.with_name(f'{key.name}.pub').read_text()}")
        paths.append(folder / "transcript.json")
        transcripts.write(each, paths[-1], key)
    signers = directory / "signers"
    signers.write_text("".join(lines))
    return paths, signers
