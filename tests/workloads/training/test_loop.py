"""The loop, run whole on a CPU: exact when it goes on, the same in parts, refused before its first step."""

import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.diagnostics import sentences
from tests.support.training_runs import QUICK, alone, assert_close, assert_same, config, read_metrics, weights
from workloads.checkpoint import Checkpoints, layout, newest, not_finite
from workloads.errors import UserError
from workloads.training import data
from workloads.training.__main__ import main
from workloads.training.loop import Training, TrainingInputs
from workloads.training.metrics import MetricsLog
from workloads.training.models import Classifier
from workloads.training.run import _run_on_all
from workloads.training.run import train as train_whole
from workloads.training.sharded import load_whole
from workloads.training.stopping import StopRequest
from workloads.training.workers.workers import Alone

TINY = ("steps=4", "global_batch=2", "report_every_steps=1", "saving.every_steps=2", "data.sequence_length=32")


def train(out: Path, *changes: str, recipe: str = "digits", stop_at: int | None = None) -> bool:
    return train_whole(config(recipe, *changes), out, {}, stop_at)


@pytest.mark.parametrize(("recipe", "changes", "at"), [("digits", (), 5), ("deepseek-v3-tiny", TINY, 3)])
def test_stopping_and_starting_again_changes_nothing(
    recipe: str, changes: Sequence[str], at: int, tmp_path: Path
) -> None:
    """
    A run that was stopped between two checkpoints, and went on, ends with the same weights to the last bit.
    """
    train(tmp_path / "whole", *changes, recipe=recipe)
    train(tmp_path / "parts", *changes, recipe=recipe, stop_at=at)
    train(tmp_path / "parts", *changes, recipe=recipe)

    assert [line["event"] for line in read_metrics(tmp_path / "parts") if "event" in line] == [
        "start", "stopped", "start", "finished",
    ]  # fmt: skip
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_finished_run_that_is_started_again_does_nothing(tmp_path: Path) -> None:
    train(tmp_path)
    before = weights(tmp_path)
    assert train(tmp_path)
    assert_same(before, weights(tmp_path))


def test_other_seeds_end_elsewhere(tmp_path: Path) -> None:
    """
    Without it the tests that compare weights would prove nothing.
    """
    train(tmp_path / "one")
    train(tmp_path / "other", "seed=1")
    with pytest.raises(AssertionError):
        assert_close(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    train(tmp_path / "parts", "accumulate=4")
    assert_close(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_it_learns(tmp_path: Path) -> None:
    train(tmp_path, "steps=120", "model.channels=16", "saving.every_steps=120")
    last = read_metrics(tmp_path)[-1]
    assert last["event"] == "finished"
    assert last["held_out_accuracy"] > 0.9


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_keeps_its_weights_in_fp32(precision: str, tmp_path: Path) -> None:
    run = config("digits", "steps=40", "optimizer.clip_norm=1.0", "model.channels=16")
    training = Training(run, TrainingInputs(data.load(run.data)), alone(tmp_path, precision))
    losses = []
    for _, indices in training._batches():
        if training.step == run.steps:
            break
        loss, _, answers = training._take_step(training.model, indices, 2e-3, counting=True).tolist()
        losses.append(loss / answers)
        training.step += 1
    assert losses[-1] < losses[0] / 2
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}


def test_its_steps_are_those_of_plain_pytorch(tmp_path: Path) -> None:
    """
    The optimizer's state, made before the first step, neither moves a weight nor counts as a step.
    """
    run = config("digits", "optimizer.weight_decay=0.5", "global_batch=32", "schedule.kind=constant")
    training = Training(run, TrainingInputs(data.load(run.data)), alone(tmp_path))
    torch.manual_seed(run.seed)
    from workloads.training.initial_weights import build

    plain = build(run.model)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=run.optimizer.learning_rate, weight_decay=0.5)
    for _, indices in training._batches():
        if training.step == 5:
            break
        training._take_step(training.model, indices, run.optimizer.learning_rate, counting=False)
        training.step += 1
        x, y = training.examples.take(indices)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(plain(x), y).backward()
        optimizer.step()
    assert_close(plain.state_dict(), training.model.state_dict())


def test_a_metric_stands_for_the_whole_batch_of_its_step(tmp_path: Path) -> None:
    train(tmp_path, "report_every_steps=5")
    steps = [line for line in read_metrics(tmp_path) if "loss" in line]
    assert [line["step"] for line in steps] == [1, 5, 10, 12]
    assert {line["epoch"] for line in steps} == {0}
    assert steps[0]["loss"] == pytest.approx(2.3, abs=0.2)  # ln 10: it knows nothing yet
    assert all(0 <= line["accuracy"] <= 1 and line["examples_per_second"] > 0 for line in steps)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_asked_to_stop_saves_first(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(metrics: MetricsLog, text: str) -> None:
        if text.startswith("step 4/"):
            signal.raise_signal(number)

    before = signal.signal(number, signal.SIG_DFL)  # a background job may ignore it
    monkeypatch.setattr(MetricsLog, "print", tell)
    try:
        assert not train(tmp_path)
    finally:
        signal.signal(number, before)
    monkeypatch.undo()
    assert read_metrics(tmp_path)[-1] == {"event": "stopped", "step": 4}

    train(tmp_path)
    train(tmp_path / "whole")
    assert_same(weights(tmp_path / "whole"), weights(tmp_path))


def test_a_run_below_nohup_goes_on_when_its_terminal_closes() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest(grace_seconds=1) as stopping:
            signal.raise_signal(signal.SIGHUP)
            assert not stopping()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_lineage_has_all_data_of_a_run_with_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A later start had replaced the data of an earlier one, in the lineage and for the children of the run.
    """
    low, high = "data.only=[0,1,2,3,4]", "data.only=[5,6,7,8,9]"
    train(tmp_path, low, stop_at=4)
    [first] = json.loads((tmp_path / "lineage.json").read_text())["data"]
    train(tmp_path, high, stop_at=8)
    assert f"note: the data is not that of the earlier steps: until step 4 it was digits, {first['sha256'][:12]}" in (
        capsys.readouterr().out
    )
    train(tmp_path, high)
    own, earlier = json.loads((tmp_path / "lineage.json").read_text())["data"]
    assert (own["only"], "until_step" in own) == ([5, 6, 7, 8, 9], False)
    known = {key: value for key, value in first.items() if key not in ("examples", "left_out")}
    assert earlier == {**known, "until_step": 4}
    found = newest(tmp_path / "checkpoints")
    assert found and [each["only"] for each in load_whole(found)["data"]] == [own["only"], first["only"]]


def test_data_that_moved_is_the_same_data(tmp_path: Path) -> None:
    text = "data.bytes_at_most=5000"
    for name, stop_at in (("before", 2), ("after", 4)):
        (tmp_path / name).write_text("a hospital has wards and beds; " * 300)
        train(tmp_path / "run", text, f"data.path={tmp_path / name}", *TINY, recipe="deepseek-v3-tiny", stop_at=stop_at)
    assert len(json.loads((tmp_path / "run" / "lineage.json").read_text())["data"]) == 1


def test_a_stop_request_to_another_process_is_heard_at_the_next_step(tmp_path: Path) -> None:
    """
    However rarely the processes report. Both save the same step.
    """

    class Two(Alone):
        size, steps = 2, 0

        def any(self, flag: bool) -> bool:
            self.steps += 1
            return self.steps == 3

    run = config("digits", "report_every_steps=1000")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        context = replace(alone(tmp_path), workers=Two(), open_checkpoints=lambda: checkpoints)
        training = Training(run, TrainingInputs(data.load(run.data)), context)
        training._check_finite = lambda: None  # type: ignore[method-assign]  # it asks the others, too
        assert not training.run(training.model, run.steps)
        assert training.step == 3
        assert checkpoints.wait()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]
    found = newest(tmp_path / "checkpoints")
    assert found and found.step == 3


def test_no_checkpoint_has_numbers_that_are_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A run that reports rarely, and diverges after its first step.
    """
    given = ("optimizer.kind=sgd", "optimizer.learning_rate=1e6", "schedule.kind=constant", "report_every_steps=1000")
    changes = [argument for change in (*QUICK, *given, "saving.every_steps=1") for argument in ("--set", change)]
    assert main(["digits", "--out", str(tmp_path), *changes]) == 4
    last = layout.steps(tmp_path / "checkpoints")[-1]
    expected = (
        f"step {last + 1}: the loss and the gradients and the weights and the optimizer's state are not finite; "
        f"finite numbers; the last good checkpoint is that of step {last}. "
        "Lower the learning rate, or set clip_norm, and start the run again."
    )
    assert expected in sentences(capsys.readouterr().err)
    found = newest(tmp_path / "checkpoints")
    assert found and not not_finite(found)


def test_a_run_resumes_from_its_last_finite_checkpoint(tmp_path: Path) -> None:
    train(tmp_path / "whole", "steps=10", "saving.every_steps=4")
    train(tmp_path / "parts", "steps=10", "saving.every_steps=4", stop_at=8)
    with Checkpoints(tmp_path / "parts" / "checkpoints") as checkpoints:
        state = checkpoints.load(checkpoints.at_step(8))
        state["model"]["head.bias"][3] = float("nan")
        checkpoints.save(8, state)

    train(tmp_path / "parts", "steps=10", "saving.every_steps=4", "saving.keep_last=1")
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert (tmp_path / "parts" / "checkpoints" / "step-0000000008.aside").is_dir()


# --- what is refused before the first step


def refused(out: Path, *changes: str) -> str:
    with pytest.raises(UserError) as error:
        train(out, *changes)
    assert not [line for line in read_metrics(out) if "loss" in line] if (out / "metrics.jsonl").exists() else True
    return str(error.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert refused(tmp_path, "model.channels=8", "steps=50") == (
        "checkpoint of step 12: its weight first.bias has shape 4; shape 8, as in the model of this run; "
        "other weights that differ: 4. "
        "Use another --out, or the model of this checkpoint."
    )


def test_a_start_that_is_refused_changes_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    """
    Before, its configuration and lineage were those of the refused start, and no export took the finished run.
    """
    train(tmp_path)
    names = ("config.json", "lineage.json")
    before = [(tmp_path / name).read_bytes() for name in names]
    with pytest.raises(UserError):
        train(tmp_path, "model.channels=8", "steps=50")
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert refused(tmp_path, "optimizer.kind=sgd", "steps=50") == (
        "checkpoint of step 12: the optimizer of the run was adamw; sgd, as in the configuration of this run. "
        "Set optimizer.kind=adamw, or use another --out."
    )


def test_data_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        train(tmp_path, f"data.path={tmp_path / 'gone'}", recipe="deepseek-v3-tiny")
    assert str(error.value) == (
        f"data.path: {tmp_path / 'gone'} cannot be read: No such file or directory; every host of the run reads it. "
        "Copy the text to this host."
    )


def test_too_little_data_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "global_batch=2000").startswith(
        "global_batch: a batch of 2000 is more than the data has; at most 1438 examples."
    )
    divided = refused(tmp_path, "global_batch=2000", "accumulate=4")
    assert divided.endswith("Use more data, or a smaller batch that accumulate=4 divides.")


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert refused(tmp_path, "device=cuda") == (
        "device: PyTorch finds no cuda on this host; auto, or cpu, which PyTorch finds. "
        "Write auto, or repair the driver of cuda."
    )


def test_what_one_process_lacks_all_of_them_refuse_and_its_host_is_named(tmp_path: Path) -> None:
    class Two(Alone):
        size = 2

        def all_gather(self, value: str) -> list[str]:  # type: ignore[override]
            parts = [{"where": "node-2: data.path", "problem": "got /x: No such file or directory"}]
            return [value, json.dumps({"status": 2, "diagnostics": parts})]

    with pytest.raises(UserError, match=r"^node-2: data\.path"):
        _run_on_all(Two(), config("digits"), lambda: None)


def test_a_loss_that_is_no_number_ends_the_run_with_status_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("optimizer.kind=sgd", "optimizer.learning_rate=1e6", "schedule.kind=constant", "report_every_steps=1")
    changes = [argument for change in (*QUICK, *given) for argument in ("--set", change)]
    assert main(["digits", "--out", str(tmp_path), *changes]) == 4
    assert "the loss is " in capsys.readouterr().err


def test_an_evaluation_computes_no_more_rows_at_once_than_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: dict[bool, set[int]] = {True: set(), False: set()}
    forward = Classifier.forward

    def counted(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        rows[self.training].add(len(x))
        return forward(self, x)

    monkeypatch.setattr(Classifier, "forward", counted)
    train(tmp_path, "global_batch=64", "accumulate=4")
    assert rows[True] == {16} and max(rows[False]) == 16
