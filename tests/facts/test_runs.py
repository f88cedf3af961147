"""What the probe sees of trainings: from files that root has put there, and files that a run's own account writes."""

import json
import math
import os
import time
from pathlib import Path

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import isolate, runs
from rackwright.facts.view import UnknownFact

ETC, HOME, OUT = "etc/rackwright/runs/digits", "var/lib/rackwright/runs/digits", "srv/warm/runs/digits"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for folder in (ETC, HOME, f"{OUT}/checkpoints/step-0000000020", f"{OUT}/checkpoints/.step-0000000040.new"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / ETC / "run.json").write_text(json.dumps({"home": f"/{HOME}", "out": f"/{OUT}"}))
    (tmp_path / ETC / "config.json").write_text(json.dumps({"model": {"kind": "image-classifier"}, "steps": 300}))
    return tmp_path


def seen(top: Path) -> Facts:
    return Facts({"runs": runs.runs(str(top))})


def test_a_run_that_has_not_begun_has_reported_nothing(top: Path) -> None:
    run = seen(top).run("digits")

    assert run is not None
    assert (run.outcome, run.steps, run.ranks, run.checkpoint) == (None, 300, {}, 20)


def test_the_newest_line_of_a_step_counts(top: Path) -> None:
    lines = [
        '{"event": "start"}',
        '{"step": 20, "loss": 0.5, "step_seconds": 0.1, "time": 7, "epoch": 1}',
        '{"step": 4',
    ]
    (top / OUT / "metrics.jsonl").write_text("\n".join(lines))
    (top / OUT / "metrics-1.jsonl").write_text('{"event": "start"}\n')
    run = seen(top).run("digits")

    assert run is not None
    assert run.ranks == {
        "metrics.jsonl": {"step": 20, "loss": 0.5, "step_seconds": 0.1, "time": 7},
        "metrics-1.jsonl": {},
    }


def test_a_private_run_has_steps_without_a_loss(top: Path) -> None:
    lines = [
        '{"event": "start"}',
        '{"event": "privacy", "epsilon": 4.0}',
        '{"time": 7, "step": 20, "learning_rate": 0.1, "step_seconds": 0.1}',
        '{"event": "evaluated", "step": 30, "loss": 0.5}',
    ]
    (top / OUT / "metrics.jsonl").write_text("\n".join(lines))
    run = seen(top).run("digits")

    assert run is not None
    assert run.ranks == {"metrics.jsonl": {"step": 20, "step_seconds": 0.1, "time": 7}}


def test_a_loss_may_be_no_number_after_a_run_diverged(top: Path) -> None:
    (top / OUT / "metrics.jsonl").write_text('{"step": 20, "loss": NaN, "time": 7}')
    run = seen(top).run("digits")

    assert run is not None
    assert math.isnan(run.ranks["metrics.jsonl"]["loss"])


def test_a_server_knows_it_once_it_has_made_a_run_of_it(top: Path) -> None:
    tracking = top / OUT / "tracking.json"
    tracking.write_text('{"url": "https://192.0.2.9:5000"}')
    assert (run := seen(top).run("digits")) is not None
    assert run.page is None

    tracking.write_text('{"url": "https://192.0.2.9:5000", "experiment": "1", "run": "ab", "sent": 30}')
    assert (run := seen(top).run("digits")) is not None
    assert run.page == "https://192.0.2.9:5000/#/experiments/1/runs/ab"


def test_the_outcome_is_its_own_report(top: Path) -> None:
    (top / HOME / "state.json").write_text('{"outcome": "failed", "why": "rank 1 ended with 137", "attempt": 3}')
    run = seen(top).run("digits")

    assert run is not None
    assert (run.outcome, run.why, run.attempt) == ("failed", "rank 1 ended with 137", 3)


def test_what_the_account_has_garbled_is_unknown_and_takes_no_other_run_along(top: Path) -> None:
    (top / HOME / "state.json").write_text("{")
    other = top / "etc/rackwright/runs/other"
    other.mkdir()
    (other / "run.json").write_text(json.dumps({"home": "/none", "out": "/none"}))
    (other / "config.json").write_text(json.dumps({"model": {}, "steps": 1}))
    facts = seen(top)

    with pytest.raises(UnknownFact, match="facts.runs.digits: JSONDecodeError"):
        facts.run("digits")
    assert facts.run("other") is not None
    assert facts.run("none") is None


@pytest.mark.parametrize("target", [None, "/dev/zero", "/etc/shadow"])
def test_a_fifo_or_a_link_in_place_of_the_state_makes_that_run_unknown_alone(top: Path, target: str | None) -> None:
    state = top / HOME / "state.json"
    if target is None:
        os.mkfifo(state)
    else:
        state.symlink_to(target)
    other = top / "etc/rackwright/runs/other"
    other.mkdir()
    (other / "run.json").write_text(json.dumps({"home": "/none", "out": "/none"}))
    (other / "config.json").write_text(json.dumps({"model": {}, "steps": 1}))
    facts = seen(top)

    with pytest.raises(UnknownFact, match="no regular file" if target is None else "links are not followed"):
        facts.run("digits")
    assert facts.run("other") is not None


def test_a_run_that_cannot_be_read_in_time_is_unknown(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "run", lambda *_: time.sleep(600))
    monkeypatch.setattr(runs, "isolate_all", lambda looks: isolate.isolate_all(looks, seconds=0.2))

    with pytest.raises(UnknownFact, match="digits: no answer within"):
        seen(top).run("digits")


@pytest.mark.parametrize(("name", "value"), [("attempt", "many"), ("outcome", ["a"]), ("why", {"a": 1})])
def test_a_state_of_another_type_is_unknown(top: Path, name: str, value: object) -> None:
    (top / HOME / "state.json").write_text(json.dumps({name: value}))
    run = seen(top).run("digits")

    assert run is not None
    with pytest.raises(UnknownFact, match=f"{name} in state.json is no"):
        getattr(run, name)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_run_is_read_with_the_rights_of_its_account(top: Path) -> None:
    for folder in (top, *top.rglob("*")):
        folder.chmod(0o755)
    for parent in top.parents:
        if parent.stat().st_mode & 0o001 == 0 and str(parent).startswith("/tmp/pytest-"):
            parent.chmod(0o711)
    (top / HOME / "state.json").write_text('{"outcome": "failed"}')
    (top / HOME / "state.json").chmod(0o600)
    os.chown(top / HOME, 65534, 65534)

    with pytest.raises(UnknownFact, match="Permission denied"):
        seen(top).run("digits")
