"""A federation of five sites with four digits each, beside one training on all rows and one on the rows of each site.

    python -m tests.support.federated_digits DIRECTORY

prints the held-out accuracies on all ten digits as JSON. It takes the environment of the workloads.
"""

import json
import sys
from pathlib import Path

from workloads.federation import weights as arrays
from workloads.federation.compare import contradictions, gaps, missing_members
from workloads.federation.config import SiteConfig, Terms, recipe_digest
from workloads.federation.local_training import evaluate, initial_model, train_round
from workloads.federation.rehearsal import SIGNERS, rehearse
from workloads.federation.site import FILE
from workloads.federation.transcript import read_verified
from workloads.tracking.provenance import code_digest
from workloads.training.config import TrainingConfig
from workloads.training.load_config import load_config

DIGITS = {"a": [0, 1, 2, 3], "b": [2, 3, 4, 5], "c": [4, 5, 6, 7], "d": [6, 7, 8, 9], "e": [8, 9, 0, 1]}
ROUNDS = 10
CHANGES = (
    "steps=400", "global_batch=32", "model.channels=16", "optimizer.learning_rate=0.006", "optimizer.weight_decay=0.0",
    "schedule.warmup_steps=0", "report_every_steps=1000",
)  # fmt: skip


def recipe(site: str | None = None) -> TrainingConfig:
    return load_config("digits", [*CHANGES, *([f"data.only={DIGITS[site]}"] if site else [])])


def alone(site: str | None, out: Path) -> float:
    """Return the accuracy after the steps of the whole federation on the rows of *site*, or on all rows."""
    model = initial_model(recipe())
    update = train_round(recipe(site), model, 1, 1, None, out).update
    return evaluate(recipe(), arrays.add(model, update), out).accuracy


def together(strategy: str, out: Path) -> float:
    """Return the accuracy of the federation's last model, after a check of all transcripts."""
    digests = {"code": code_digest(), "recipe": recipe_digest(recipe())}
    terms = Terms(federation="digits", members=(*DIGITS,), rounds=ROUNDS, clip_norm=10.0, strategy=strategy, **digests)  # type: ignore[arg-type]
    *_, last = rehearse([SiteConfig(site=site, terms=terms, recipe=recipe(site)) for site in DIGITS], out)
    transcripts = [read_verified(out / site / FILE, out / SIGNERS) for site in DIGITS]
    assert contradictions(transcripts) == gaps(transcripts) == missing_members(transcripts) == []
    return evaluate(recipe(), last.model, out / "whole").accuracy


def main() -> None:
    out = Path(sys.argv[1])
    figures = {strategy: together(strategy, out / strategy) for strategy in ("fedavg", "fedprox")}
    figures |= {"central": alone(None, out / "central")}
    print(json.dumps({**figures, "single": max(alone(site, out / "single") for site in DIGITS)}))


if __name__ == "__main__":
    main()
