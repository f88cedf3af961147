"""Whole federations of five sites in this process, and a site that decides for itself what it trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.diagnostics import sentences
from workloads.errors import UserError
from workloads.federation import coordinator, transcript
from workloads.federation import weights as arrays
from workloads.federation.__main__ import main
from workloads.federation.compare import contradictions, gaps, missing_members
from workloads.federation.config import REPEATS_MAX, SiteConfig, Terms, recipe_digest
from workloads.federation.local_training import evaluate, initial_model, train_round
from workloads.federation.messages import RoundReply, RoundRequest, Statement
from workloads.federation.rehearsal import rehearse
from workloads.federation.rounds import FileMember
from workloads.federation.shared_folders import SharedPath
from workloads.federation.site import Site
from workloads.federation.weights import Weights
from workloads.tracking.provenance import code_digest
from workloads.training.config import TrainingConfig
from workloads.training.load_config import load_config

DIGITS = {"a": [0, 1, 2, 3], "b": [2, 3, 4, 5], "c": [4, 5, 6, 7], "d": [6, 7, 8, 9], "e": [8, 9, 0, 1]}
SMALL = (
    "model.channels=8", "global_batch=32", "optimizer.learning_rate=0.006", "optimizer.weight_decay=0.0",
    "schedule.kind=constant", "schedule.warmup_steps=0", "report_every_steps=1000",
)  # fmt: skip


def recipe(site: str | None = None, steps: int = 8, *changes: str) -> TrainingConfig:
    only = [f"data.only={DIGITS[site]}"] if site else []
    return load_config("digits", [*SMALL, f"steps={steps}", *only, *changes])


def terms(rounds: int, steps: int, **changes: Any) -> Terms:
    digests = {"code": code_digest(), "recipe": recipe_digest(recipe(steps=steps))}
    values = {"federation": "wards", "members": (*DIGITS,), "rounds": rounds, "clip_norm": 10.0, **digests, **changes}
    return Terms(**values)  # type: ignore[arg-type]


def configs(agreed: Terms, steps: int) -> list[SiteConfig]:
    return [SiteConfig(site=site, terms=agreed, recipe=recipe(site, steps)) for site in agreed.members]


def test_sites_with_four_digits_each_learn_all_ten(tmp_path: Path) -> None:
    agreed = terms(6, 90)
    results = [*rehearse(configs(agreed, 90), tmp_path)]
    files = [tmp_path / site / "transcript.json" for site in DIGITS]
    transcripts = [transcript.read_verified(path, tmp_path / "signers") for path in files]

    # no site alone knows more than 4 of 10 digits
    assert evaluate(recipe(steps=90), results[-1].model, tmp_path / "whole").accuracy > 0.6
    assert all(result.statement.excluded == {} for result in results)
    assert contradictions(transcripts) == gaps(transcripts) == missing_members(transcripts) == []
    assert all(len(each.entries) == 6 and each.conclusion == results[-1].statement for each in transcripts)


def test_a_repeated_round_has_the_same_update(tmp_path: Path) -> None:
    model = initial_model(recipe())
    first, again = (train_round(recipe("a"), model, 2, 4, 0.1, tmp_path).update for _ in range(2))

    assert arrays.digest(first) == arrays.digest(again)
    assert arrays.digest(first) != arrays.digest(train_round(recipe("a"), model, 3, 4, 0.1, tmp_path).update)


def test_the_proximal_term_keeps_an_update_near_the_received_model(tmp_path: Path) -> None:
    model = initial_model(recipe())
    free, near = (arrays.norm(train_round(recipe("a"), model, 1, 1, each, tmp_path).update) for each in (None, 100.0))

    assert near < free / 2


@dataclass
class Poisoned:
    """A member whose update is another one than its training made."""

    site: Site
    update: float

    def train(self, request: RoundRequest, model: Weights) -> tuple[RoundReply, Weights]:
        reply, update = self.site.train(request, model)
        poisoned = {name: np.full_like(each, self.update) for name, each in update.items()}
        return reply.model_copy(update={"update": arrays.digest(poisoned)}), poisoned

    def conclude(self, statement: Statement) -> None:
        pass


def sites(tmp_path: Path, agreed: Terms, steps: int) -> dict[str, Site]:
    from workloads.federation.rehearsal import _make_key

    return {
        each.site: Site(each, tmp_path / each.site, _make_key(tmp_path / each.site)) for each in configs(agreed, steps)
    }


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "not finite"), (5.0, "its distance from the middle")])
def test_a_poisoned_update_is_named_and_the_round_goes_on(value: float, reason: str, tmp_path: Path) -> None:
    agreed = terms(1, 8)
    members: dict[str, Any] = {**sites(tmp_path, agreed, 8)}
    members["c"] = Poisoned(members["c"], value)

    [result] = coordinator.run(agreed, members, initial_model(recipe()))

    assert [*result.statement.excluded] == ["c"] and reason in result.statement.excluded["c"]
    assert arrays.are_finite(result.model)


def test_a_lost_site_is_excluded_and_too_few_sites_end_the_training(tmp_path: Path) -> None:
    agreed = terms(1, 8)
    members = sites(tmp_path, agreed, 8)
    with pytest.raises(UserError, match=r"round 1 has 2 good updates; 3 or more for trimmed-mean with 1 tolerated"):
        [*coordinator.run(agreed, {site: members[site] for site in "bc"}, initial_model(recipe()))]

    del members["a"]
    [result] = coordinator.run(agreed, members, initial_model(recipe()))
    assert result.statement.excluded == {"a": "it is not connected"}


def test_the_reason_of_an_exclusion_has_no_path_of_the_coordinator(tmp_path: Path) -> None:
    agreed = terms(1, 8)
    reply = RoundReply(site="a", round=1, request="0" * 64, update="0" * 64, loss=0.5, accuracy=0.5)
    member = FileMember(reply, SharedPath(tmp_path) / "replies" / "a")
    members: dict[str, Any] = {**sites(tmp_path, agreed, 8), "a": member}

    [result] = coordinator.run(agreed, members, initial_model(recipe()))

    assert result.statement.excluded == {"a": "no update: the file cannot be read: No such file or directory"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"code": "0" * 64}, "terms.code: the coordinator asks for 000"),
        ({"recipe": "0" * 64}, "terms.recipe: the coordinator asks for 000"),
        ({"clip_norm": 99.0}, "terms.clip_norm: the coordinator asks for 99.0; 10.0"),
        ({"members": ("a", "b", "c", "d")}, "terms.members: the coordinator asks for"),
        ({"strategy": "fedprox"}, "terms.strategy: the coordinator asks for fedprox; fedavg"),
    ],
)
def test_a_site_trains_on_its_own_terms_alone(changes: Mapping[str, Any], problem: str, tmp_path: Path) -> None:
    agreed, model = terms(2, 8), initial_model(recipe())
    site = sites(tmp_path, agreed, 8)["a"]
    asked = RoundRequest(round=1, terms=agreed.model_copy(update=changes), model=arrays.digest(model))

    with pytest.raises(UserError, match=problem):
        site.train(asked, model)
    assert not site.path.exists()


def larger(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([each, each]) for name, each in model.items()}


def test_a_site_refuses_other_models_and_statements_about_itself(tmp_path: Path) -> None:
    agreed, model = terms(2, 8), initial_model(recipe())
    site = sites(tmp_path, agreed, 8)["a"]
    request = RoundRequest(round=1, terms=agreed, model=arrays.digest(model))

    for wrong, problem in ((larger(model), "shape"), ({}, "other names"), (arrays.add(model, model), "its digest is")):
        with pytest.raises(UserError, match=problem):
            site.train(request, wrong)
    made = arrays.add(model, model)
    with pytest.raises(UserError, match="round 1 starts from the model .*; that of the recipe's seed"):
        site.train(request.model_copy(update={"model": arrays.digest(made)}), made)
    with pytest.raises(UserError, match="round 2 comes without the statement about the round before"):
        site.train(request.model_copy(update={"round": 2}), model)
    earlier = Statement(round=1, updates={}, excluded={}, model="0" * 64)
    with pytest.raises(UserError, match="the statement is about round 1 and the model 000"):
        site.train(request.model_copy(update={"round": 2, "statement": earlier}), model)
    with pytest.raises(UserError, match="round: got 3; at most 2"):
        site.train(request.model_copy(update={"round": 3}), model)
    site.train(request, model)
    lie = Statement(round=1, updates={"a": "0" * 64}, excluded={}, model=request.model)
    with pytest.raises(UserError, match="lists an update of this site in round 1 that it did not send"):
        site.train(request.model_copy(update={"round": 2, "statement": lie}), model)
    for _ in range(REPEATS_MAX - 1):
        site.train(request, model)
    with pytest.raises(UserError, match="round 1 was answered 3 times"):
        site.train(request, model)


def test_a_site_records_each_round_once_and_no_statement_takes_the_place_of_another(tmp_path: Path) -> None:
    agreed, model = terms(2, 8), initial_model(recipe())
    site = sites(tmp_path, agreed, 8)["a"]
    reply, _ = site.train(RoundRequest(round=1, terms=agreed, model=arrays.digest(model)), model)
    others = dict.fromkeys("bcde", "it is not connected")
    first = Statement(round=1, updates={"a": reply.update}, excluded=others, model=reply.update)
    false = arrays.add(model, model)
    asked = RoundRequest(round=2, terms=agreed, model=arrays.digest(false))
    site.train(asked.model_copy(update={"statement": first.model_copy(update={"model": asked.model})}), false)
    true = RoundRequest(round=2, terms=agreed, model=arrays.digest(model))
    with pytest.raises(UserError, match="round 2 was asked for before with another model or statement"):
        site.train(true.model_copy(update={"statement": first.model_copy(update={"model": true.model})}), model)

    last = Statement(round=2, updates={}, excluded={"a": "it is late", **others}, model="a" * 64)
    with pytest.raises(UserError, match="it is about round 99; 2, the last one"):
        site.conclude(last.model_copy(update={"round": 99}))
    with pytest.raises(UserError, match="z: not named in the statement, or no member"):
        site.conclude(last.model_copy(update={"updates": {"z": "0" * 64}}))
    for _ in range(2):
        site.conclude(last)
    with pytest.raises(UserError, match="has sent another statement about the last round before"):
        site.conclude(last.model_copy(update={"model": "b" * 64}))
    with pytest.raises(UserError, match="got 2 after the end"):
        site.train(asked.model_copy(update={"statement": first.model_copy(update={"model": asked.model})}), false)
    assert transcript.read(site.path).conclusion == last


def test_a_site_whose_code_or_recipe_differs_does_not_start(tmp_path: Path) -> None:
    for changes, problem in (({"code": "0" * 64}, "the code of this site"), ({"recipe": "0" * 64}, "the recipe of")):
        with pytest.raises(UserError, match=problem):
            sites(tmp_path, terms(2, 8, **changes), 8)
    assert [*tmp_path.rglob("transcript.json")] == []


def test_the_commands_declare_and_rehearse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [argument for change in (*SMALL, "steps=2") for argument in ("--set", change)]
    declare = ["terms", "digits", *changes, "--federation", "wards", "--members", *DIGITS, "--rounds", "1"]
    assert main(declare) == 0
    (tmp_path / "terms.json").write_text(capsys.readouterr().out)
    for site, only in DIGITS.items():
        options = ["--terms", str(tmp_path / "terms.json"), "--set", f"data.only={only}"]
        assert main(["site", site, "digits", *changes, *options]) == 0
        (tmp_path / f"{site}.json").write_text(capsys.readouterr().out)
    files = [str(tmp_path / f"{site}.json") for site in DIGITS]

    assert main(["rehearse", *files, "--out", str(tmp_path / "out")]) == 0
    assert "round 1: 5 updates; accuracy before it 0." in capsys.readouterr().out

    assert main(["site", "a", "digits", "--terms", str(tmp_path / "terms.json")]) == 2
    assert "terms.json: recipe: the recipe here has the digest" in sentences(capsys.readouterr().err)


FIVE = ("--members", *DIGITS)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--members", "a", "b", "--rounds", "1"), "trimmed-mean with 1 tolerated needs 4 sites, and members has 2"),
        (
            ("--members", "a", "b", "c", "--rounds", "1"),
            "trimmed-mean with 1 tolerated needs 4 sites, and members has 3",
        ),
        ((*FIVE, "--rounds", "1", "--term", "rule=krum"), "krum with 1 tolerated needs 6 sites, and members has 5"),
        ((*FIVE, "--rounds", "1000000000000"), "less than or equal to 1000"),
        (("--members", "a", "b", "a", "--rounds", "1"), "each site is a member once"),
        ((*FIVE, "--rounds", "7"), "steps: got 300; a multiple of the 7 rounds. Write 294"),
        ((*FIVE, "--rounds", "1", "--term", "aggregation=secure"), "should be 'robust'"),
        ((*FIVE, "--rounds", "1", "--set", "sharding=full"), "several processes for one model"),
    ],
)
def test_terms_that_cannot_be_are_refused(
    arguments: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["terms", "digits", "--federation", "wards", *arguments]) == 2
    assert problem in sentences(capsys.readouterr().err)


def test_a_language_model_is_no_recipe_of_a_federation(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["terms", "deepseek-v3-tiny", "--federation", "wards", *FIVE, "--rounds", "1"]
    assert main(arguments) == 2
    assert "model.kind: got deepseek-v3" in capsys.readouterr().err
