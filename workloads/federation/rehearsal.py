"""A whole federation in one process, before institutions join: the same sites, checks, rules and transcripts."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.federation import coordinator
from workloads.federation.config import SiteConfig
from workloads.federation.coordinator import RoundResult
from workloads.federation.local_training import initial_model
from workloads.federation.site import Site
from workloads.foreign import read_file

SIGNERS = "signers"
KEY = "key"


def rehearse(configs: Sequence[SiteConfig], out: Path) -> Iterator[RoundResult]:
    """Yield each round of the federation of *configs*, whose sites all run here, one after the other.

    Each site writes to *out*/SITE, with a new key; *out*/signers has the public keys.

    Raises:
        UserError: Sites do not agree on one federation, or a round has too few good updates.
    """
    terms = configs[0].terms
    names = [config.site for config in configs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(Diagnostic(repeated[0], "two files declare this site", "one file for each site", "Remove one"))
    sites = {config.site: Site(config, out / config.site, _make_key(out / config.site)) for config in configs}
    lines = [f"{name} {read_file(out / name / f'{KEY}.pub').decode().strip()}\n" for name in sites]
    (out / SIGNERS).write_text("".join(lines))
    return coordinator.run(terms, sites, initial_model(configs[0].recipe))


def _make_key(directory: Path) -> Path:
    """Return the private key of a rehearsed site, made if it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / KEY
    if not path.exists():
        argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", directory.name, "-f", str(path))
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path
