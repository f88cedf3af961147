"""The stages of an iteration: their order, the arguments of each, what they refuse, and where a later start goes on."""

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackwright.iteration.gate import Limits
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.run import StageFailed, iterate
from tests.iteration.conftest import FLEET, FakeActions, checkpoint, publish, rows, trained
from workloads.serving import model as model_directory

Ask = Callable[..., IterationRequest]
ALL = ["training", "compare", "quantize", "compare", "promote", "up"]


def fleet(project: Path) -> str:
    return (project / "stacks" / "serving.yaml").read_text()


def work(project: Path) -> Path:
    [found] = (project / ".rackwright" / "iterations" / "digits").iterdir()
    return found


def refused(asked: IterationRequest, outside: FakeActions, status: int = 1) -> StageFailed:
    with pytest.raises(StageFailed) as error:
        iterate(asked, outside)
    assert error.value.exit_status == status
    return error.value


class TestWhole:
    def test_new_rows_come_to_be_served(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        before = model_directory.read(project / ".rackwright" / "models" / "digits").version
        report = iterate(asked(), outside)

        assert outside.names == ALL
        made = model_directory.read(work(project) / "model").version
        path = f".rackwright/iterations/digits/{work(project).name}/model"
        assert fleet(project) == FLEET.replace(
            "{path: .rackwright/models/digits}", f'{{path: "{path}", version: "{made}"}}'
        )
        assert (report["outcome"], report["stage"], report["why"]) == ("served", "up", "")
        assert (report["before"]["version"], report["after"]["version"]) == (before, made)
        assert report["accuracy"] == [
            {"data": "new rows", "rows": 40, "before": 0.5, "tuned": 0.9, "after": 0.9},
            {"data": "digits", "rows": 40, "before": 0.97, "tuned": 0.965, "after": 0.96},
        ]
        assert all(each["done"] for each in report["stages"].values())
        assert report == json.loads((work(project) / "report.json").read_text())
        text = (work(project) / "report.md").read_text()
        assert "| digits | 40 | 0.9700 | 0.9650 | 0.9600 |" in text
        assert f"Before: version {before}, int8 for cpu" in text

    def test_a_training_goes_on_from_what_is_served(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        iterate(asked(changes=("tune.steps=60", "tune.data.held_out=0.5")), outside)
        config = json.loads((work(project) / "run.json").read_text())

        assert config["fine_tuning"]["parent"] == str(project / ".rackwright/train/checkpoints/step-0000000300")
        assert (config["fine_tuning"]["replay"], config["fine_tuning"]["may_lose"]) == (0.5, 0.01)
        assert config["data"] == {"kind": "rows", "path": str(work(project) / "data.npz"), "held_out": 0.5}
        assert (work(project) / "data.npz").read_bytes() == (project / "new.npz").read_bytes()
        assert (config["schedule"]["kind"], config["steps"]) == ("adaptive", 60)
        assert (config["launcher"], config["world"]) == ("any", None), "its parent had eight processes elsewhere"
        assert outside.ran[0] == ["workloads.training", str(work(project) / "run.json"), "--out",
                                  str(work(project) / "training")]  # fmt: skip

    def test_several_processes_have_a_launcher(self, asked: Ask, outside: FakeActions) -> None:
        iterate(asked(processes=2), outside)
        assert outside.ran[0][:3] == ["workloads.training.launch", "-np", "2"]

    def test_it_is_quantised_as_what_is_served_is(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        lineage = {"source": {"training": trained()}, "precision": "fp32"}
        publish(project / ".rackwright" / "models" / "digits", b"good", lineage)
        iterate(asked(changes=("quantize.repeats=5",)), outside)
        settings = json.loads((work(project) / "quantize.json").read_text())

        assert outside.ran[2][1:6] == [str(work(project) / "training"), "--data", "training", "--target", "cpu"]
        assert (settings["precision"], settings["repeats"], settings["gate"]["accuracy_kept"]) == ("fp32", 5, 0.98)

        iterate(asked(target="t4"), outside)
        settings = json.loads((work(project) / "quantize.json").read_text())
        assert settings["precision"] == "auto", "another processor may be made for another one"

    def test_what_the_declaration_asks_of_a_report_is_what_quantising_asks(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        (project / "stacks" / "serving.yaml").write_text(f"{FLEET}    gate: {{accuracy_kept: 0.999}}\n")
        iterate(asked(), outside)
        assert json.loads((work(project) / "quantize.json").read_text())["gate"]["accuracy_kept"] == 0.999

    def test_it_stops_after_the_stage_that_is_named(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        assert iterate(asked(until=Stage.QUANTIZE), outside)["outcome"] == "quantized"
        assert (outside.names, fleet(project)) == (ALL[:4], FLEET)

        assert iterate(asked(until=Stage.PROMOTE), outside)["outcome"] == "promoted"
        assert outside.names == [*ALL[:4], "promote"]
        assert iterate(asked(), outside)["outcome"] == "served"
        assert outside.names == ALL


class TestGates:
    def test_what_forgets_is_refused_with_both_figures(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        outside.tuned["digits"] = 0.95
        error = refused(asked(), outside)

        assert str(error).startswith(
            "gate: accuracy: the new model falls short: 0.9500 on digits, where the served model has 0.9700; a loss of"
        )
        assert (outside.names, fleet(project)) == (ALL[:2], FLEET)
        assert error.report == json.loads((work(project) / "report.json").read_text())
        assert (error.report["outcome"], error.report["stage"], error.report["after"]) == ("refused", "gate", None)
        assert error.report["why"] == str(error)

    def test_a_looser_gate_judges_what_was_trained(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        outside.tuned["digits"] = outside.made["digits"] = 0.95
        refused(asked(), outside)
        directory = work(project)

        assert iterate(asked(limits=Limits(may_lose=0.03)), outside)["outcome"] == "served"
        assert work(project) == directory, "the training finds itself finished there"

    def test_new_rows_lose_nothing_whatever_may_be_lost(self, asked: Ask, outside: FakeActions) -> None:
        outside.tuned["new"] = 0.49
        assert "the new model falls short: 0.4900 on new rows, where the served model has 0.5000" in str(
            refused(asked(limits=Limits(may_lose=0.5)), outside)
        )
        outside.tuned["new"] = 0.5
        assert iterate(asked(limits=Limits(may_lose=0.5)), outside)["outcome"] == "served", "as good is good enough"

    def test_a_gain_that_is_asked_for_is_one_on_new_rows(self, asked: Ask, outside: FakeActions) -> None:
        outside.tuned["new"] = 0.5
        error = refused(asked(limits=Limits(must_gain=0.2)), outside)
        assert "falls short: 0.5000 on new rows, where the served model has 0.5000;" in str(error)
        assert "and a gain of at least 0.2 on new rows" in str(error)
        outside.tuned["new"] = outside.made["new"] = 0.7
        assert iterate(asked(limits=Limits(must_gain=0.2)), outside)["outcome"] == "served"

    def test_a_floor_refuses_what_is_no_worse_than_a_bad_served_model(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        outside.before["new"], outside.tuned["new"], outside.made["new"] = 0.1, 0.2, 0.2
        error = refused(asked(limits=Limits(at_least=0.8)), outside)
        assert "the new model falls short: 0.2000 on new rows, of at least 0.8; a loss of" in str(error)
        assert "and none on new rows, with an accuracy of at least 0.8 there" in str(error)
        assert ". Lower --at-least only if so many errors do no harm" in str(error)
        assert (outside.names, fleet(project)) == (ALL[:2], FLEET)
        assert error.report is not None and error.report["data"]["at_least"] == 0.8

        outside.tuned["new"] = 0.8
        error = refused(asked(limits=Limits(at_least=0.8)), outside)
        assert "quantize: accuracy: the new model falls short: 0.2000 on new rows, of at least 0.8" in str(error)
        outside.made["new"] = 0.8
        report = iterate(asked(limits=Limits(at_least=0.8)), outside)
        assert (report["outcome"], report["warning"]) == ("served", "")
        lineage = model_directory.read(work(project) / "model").lineage["iteration"]
        assert (lineage["at_least"], lineage["may_lose"], lineage["must_gain"]) == (0.8, 0.01, 0.0)
        assert (lineage["id"], lineage["data"]) == (report["id"], report["data"]["sha256"])
        assert "floor: 0.8." in (work(project) / "report.md").read_text()

    def test_both_limits_of_new_rows_are_reported(self, asked: Ask, outside: FakeActions) -> None:
        outside.tuned["new"] = 0.49
        text = str(refused(asked(limits=Limits(at_least=0.8)), outside))
        assert "has 0.5000; and 0.4900 on new rows, of at least 0.8" in text
        outside.tuned["new"] = math.nan
        error = refused(asked(limits=Limits(at_least=0.0)), outside)
        assert "nan on new rows, of at least 0" in str(error)
        assert error.report is not None and error.report["accuracy"][0]["tuned"] is None, "JSON has no NaN"

    def test_a_bad_model_without_a_floor_is_promoted_with_a_warning(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        """An accuracy of one half is the first one without: such a model is as often right as wrong."""
        outside.before["new"], outside.tuned["new"], outside.made["new"] = 0.1, 0.05, 0.4999
        error = refused(asked(), outside)
        assert error.report is not None and error.report["warning"] == "", "nothing was let through"
        outside.tuned["new"] = 0.51
        assert iterate(asked(until=Stage.GATE), outside)["warning"] == ""
        report = iterate(asked(), outside)
        warning = (
            "the gate has only compared the new model with the served one, and no floor was set: its accuracy on new"
            " rows is 0.4999, less than one half; --at-least SHARE refuses such a model"
        )
        assert (report["outcome"], report["warning"]) == ("served", warning)
        assert f"**Warning: {warning}.**" in (work(project) / "report.md").read_text()
        lines = [line.split(":")[0] for line in outside.messages]
        assert lines.index("  warning") == lines.index("5/6 promote") + 1
        assert f"  warning: {warning}" in outside.messages

        assert iterate(asked(limits=Limits(at_least=0.0)), outside)["warning"] == "", "a floor of 0 is a decision"
        outside.made["new"] = 0.5
        assert iterate(asked(changes=("tune.steps=9",)), outside)["warning"] == ""

    def test_a_state_without_a_floor_is_that_of_earlier_versions(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        """Their finished iterations would otherwise be judged and quantised again."""
        iterate(asked(), outside)
        stages = json.loads((work(project) / "state.json").read_text())["stages"]
        assert stages["gate"]["for"] == {"may_lose": 0.01, "must_gain": 0.0}
        assert stages["quantize"]["for"].keys() == {"target", "settings", "may_lose", "must_gain"}

    def test_too_few_rows_judge_nothing(self, asked: Ask, outside: FakeActions) -> None:
        outside.rows = 7
        assert "the new model falls short: 7 new rows, of at least 8" in str(refused(asked(), outside))

    def test_what_is_unknown_does_not_pass(self, asked: Ask, outside: FakeActions) -> None:
        outside.tuned["digits"] = None  # type: ignore[assignment]
        refused(asked(), outside)

    def test_what_is_worse_than_its_parent_is_refused_though_what_is_served_is_worse(
        self, asked: Ask, outside: FakeActions
    ) -> None:
        outside.status["training"], outside.parent, outside.own = 1, 0.9, 0.88
        assert "the new model falls short: 0.8800 on new rows, where its parent has 0.9000" in str(
            refused(asked(), outside)
        )
        assert outside.names == ALL[:2]

    def test_what_quantising_refuses_is_not_promoted(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        outside.status["quantize"] = 1
        assert str(refused(asked(), outside)).startswith(
            "quantize: quantising: the quantised model fails its gate: 'quantize has ended'"
        )
        assert fleet(project) == FLEET

    def test_what_quantising_made_worse_than_what_is_served_is_not_promoted(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        outside.made["new"] = 0.4
        assert "quantize: accuracy: the new model falls short: 0.4000 on new rows" in str(refused(asked(), outside))
        assert (outside.names, fleet(project)) == (ALL[:4], FLEET)

        outside.made["new"] = 0.9
        assert iterate(asked(), outside)["outcome"] == "served"


class TestGoingOn:
    def test_what_is_served_is_not_done_again(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        once = iterate(asked(), outside)
        again = iterate(asked(), outside)

        assert outside.names == ALL, "nothing was run a second time"
        assert {**again, "stages": None, "seconds": None} == {**once, "stages": None, "seconds": None}
        assert [each for each in outside.messages if each.endswith(": done before")][-1].startswith("6/6 up")

    @pytest.mark.parametrize("where", ["training", "compare", "quantize", "up"])
    def test_after_an_interruption_it_goes_on_there(
        self, project: Path, asked: Ask, outside: FakeActions, where: str
    ) -> None:
        outside.interrupts = where
        with pytest.raises(KeyboardInterrupt):
            iterate(asked(), outside)
        report = json.loads((work(project) / "report.json").read_text())
        assert (report["outcome"], fleet(project) == FLEET) == ("interrupted", where != "up")

        outside.interrupts, before = "", outside.names
        assert iterate(asked(), outside)["outcome"] == "served"
        assert [*before[:-1], *outside.names[len(before) :]] == ALL

    def test_pulumi_that_was_interrupted_interrupts(self, asked: Ask, outside: FakeActions) -> None:
        outside.status["up"] = 130
        with pytest.raises(KeyboardInterrupt):
            iterate(asked(), outside)

    @pytest.mark.parametrize("status", [3, 4])
    def test_a_rollout_that_fails_is_gone_on_with(self, asked: Ask, outside: FakeActions, status: int) -> None:
        outside.status["up"] = status
        error = refused(asked(), outside, status)
        assert str(error).startswith(f"up: stack serving: the rollout failed: `up` ended with status {status}")
        assert error.report is not None and error.report["outcome"] == "failed"

        outside.status["up"] = 0
        assert iterate(asked(), outside)["outcome"] == "served"
        assert outside.names == [*ALL, "up"]

    def test_what_was_rolled_back_is_promoted_again_by_who_asks_again(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        iterate(asked(), outside)
        (project / "stacks" / "serving.yaml").write_text(FLEET)

        assert iterate(asked(), outside)["outcome"] == "served"
        assert outside.names == [*ALL, "promote", "up"]

    def test_a_model_that_was_removed_is_made_again(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        iterate(asked(until=Stage.QUANTIZE), outside)
        (work(project) / "model" / "model.json").unlink()
        (work(project) / "model" / "model.onnx").unlink()
        (work(project) / "model").rmdir()

        iterate(asked(), outside)
        assert outside.names == [*ALL[:4], "quantize", "compare", "promote", "up"]

    def test_times_of_all_attempts_are_added(
        self, project: Path, asked: Ask, outside: FakeActions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seconds = iter(range(1000))
        monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
        outside.interrupts = "training"
        with pytest.raises(KeyboardInterrupt):
            iterate(asked(), outside)
        outside.interrupts = ""
        report = iterate(asked(), outside)

        assert {name: each["seconds"] for name, each in report["stages"].items()} == {
            "find": 2.0, "tune": 2.0, "gate": 1.0, "quantize": 1.0, "promote": 1.0, "up": 1.0,
        }  # fmt: skip
        assert report["seconds"] == 8.0

    def test_the_next_iteration_begins_with_what_this_one_made(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        iterate(asked(), outside)
        first = work(project)
        outside.weights, made = b"best", model_directory.read(first / "model")
        report = iterate(asked(data=rows(project / "more.npz", b"more")), outside)

        assert report["id"] != first.name
        assert report["before"]["version"] == made.version
        assert report["parent"]["path"] == str(first / "training" / "checkpoints" / "step-0000000300")
        assert report["outcome"] == "served"

    def test_the_same_question_is_the_same_iteration(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        def name(**more: Any) -> str:
            return str(iterate(asked(until=Stage.GATE, **more), outside)["id"])

        same = name()
        assert name(data=rows(project / "copy.npz", year=1999)) == same, "a file's dates are not its rows"
        assert name(limits=Limits(may_lose=0.1)) == name(target="t4") == name(processes=2) == same
        others = {name(data=rows(project / "more.npz", b"more")), name(changes=("tune.steps=9",))}
        assert len(others | {same}) == 3


class TestRefused:
    def find(self, asked: IterationRequest, outside: FakeActions) -> str:
        error = refused(asked, outside, 2)
        assert error.stage is Stage.FIND and not outside.ran
        assert error.report is None, "nothing has begun"
        assert not (outside.project / ".rackwright" / "iterations").exists()
        return str(error)

    def test_no_rows(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        (project / "text.npz").write_text("x")
        assert "find: --data: " in self.find(asked(data=project / "text.npz"), outside)
        assert "No such file or directory" in self.find(asked(data=project / "none.npz"), outside)

    def test_settings_that_cannot_be(self, asked: Ask, outside: FakeActions) -> None:
        assert "--set: 'steps=9' is not a setting of this iteration; tune.KEY=VALUE or quantize.KEY=VALUE" in self.find(
            asked(changes=("steps=9",)), outside
        )
        assert "--set tune: stepz: there is no such key" in self.find(asked(changes=("tune.stepz=9",)), outside)
        assert "--set quantize: precision: got int9" in self.find(asked(changes=("quantize.precision=int9",)), outside)

    def test_questions_for_a_classifier(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        (project / "exam.jsonl").write_text('{"question": "a", "choices": ["b", "c"], "answer": 0}\n' * 8)
        assert "--choices: models for .npz data answer no questions; conversations as new data" in self.find(
            asked(choices=project / "exam.jsonl"), outside
        )

    def test_a_model_of_another_owner(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        publish(project / ".rackwright" / "models" / "digits", b"good", {"source": {"file": "model.onnx"}})
        assert "names no training; a model from a training" in self.find(asked(), outside)

    def test_a_training_that_is_nowhere(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        (project / ".rackwright" / "train").rename(project / "elsewhere")
        assert "Add --from DIRECTORY of its training, or --tracking URL" in self.find(asked(), outside)
        checkpoint(project / "another", b"the manifest of another one")
        message = self.find(asked(training_directory=project / "another"), outside)
        assert f"--from: {project / 'another'} lacks the checkpoint of version" in message

        report = iterate(asked(training_directory=project / "elsewhere"), outside)
        assert report["parent"]["path"] == str(project / "elsewhere" / "checkpoints" / "step-0000000300")

    def test_a_version_that_only_the_hosts_have(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        text = FLEET.replace("{path: .rackwright/models/digits}", '{version: "0123456789ab"}')
        (project / "stacks" / "serving.yaml").write_text(text)
        assert "the served version 0123456789ab is not on this computer" in self.find(asked(), outside)

        version = model_directory.read(project / ".rackwright" / "models" / "digits").version
        (project / "stacks" / "serving.yaml").write_text(text.replace("0123456789ab", version))
        assert iterate(asked(), outside)["before"]["version"] == version, "it lies where models do"

    def test_a_model_that_was_changed_by_hand(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        (project / ".rackwright" / "models" / "digits" / "model.onnx").write_bytes(b"evil")
        error = refused(asked(), outside, 1)
        assert "model.onnx has the sha256" in str(error)

    def test_another_model_in_the_place_of_what_was_served(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        iterate(asked(), outside)
        publish(project / ".rackwright" / "models" / "digits", b"other", {"source": {"training": trained()}})
        assert ". Publish the served version there again" in str(refused(asked(target="t4"), outside, 2))

    @pytest.mark.parametrize(("status", "expected"), [(2, 2), (3, 3), (4, 4), (-9, 4), (130, 4)])
    def test_a_process_that_fails_is_reported_with_its_last_line(
        self, project: Path, asked: Ask, outside: FakeActions, status: int, expected: int
    ) -> None:
        outside.status["training"] = status
        error = refused(asked(), outside, expected)
        assert f"tune: python -m workloads.training: the process failed with status {status}: " in str(error)
        assert status in (-9, 130) or f"{status}: 'training has ended'; its output is in " in str(error)
        assert fleet(project) == FLEET

    def test_a_failure_has_its_reason_the_log_and_the_command_that_continues(
        self, project: Path, asked: Ask, outside: FakeActions
    ) -> None:
        outside.status["training"] = 4
        outside.output["training"] = [
            "step 1/20 loss 2.3", "error: step 10: the loss is not finite", "  expected: finite numbers",
            "  note:     the run has no checkpoint yet", "  help:     Lower the learning rate",
        ]  # fmt: skip
        given = asked(
            changes=("tune.steps=60",), limits=Limits(0.02, at_least=0.5), until=Stage.PROMOTE, processes=2,
            training_directory=project / ".rackwright" / "train",
        )  # fmt: skip
        outside.status["launch"], outside.output["launch"] = 4, outside.output["training"]
        [error] = refused(given, outside, 4).diagnostics
        assert error.where == "tune: python -m workloads.training.launch"
        assert error.problem == "the process failed with status 4: step 10: the loss is not finite"
        assert error.expected == "finite numbers"
        log = work(project) / "processes.log"
        assert error.note == f"the run has no checkpoint yet; its output is in {log}"
        again = (
            f"rackwright server iterate serving digits --data {project}/new.npz --from {project}/.rackwright/train"
            " --may-lose 0.02 --at-least 0.5 --processes 2 --set tune.steps=60 --until promote"
        )
        assert error.help == f"Lower the learning rate. Run `{again}`, which continues with this stage"
        [first, *lines] = log.read_text().splitlines()
        assert " python -m workloads.training.launch -np 2 " in first and lines == outside.output["launch"]
        with pytest.raises(StageFailed):
            iterate(given, outside)
        assert len(log.read_text().splitlines()) == 2 * len([first, *lines]), "all starts are in it"

    def test_a_full_drive_is_named_with_the_command_that_continues(
        self, project: Path, asked: Ask, outside: FakeActions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file of the state cannot be written after the stage; the reason of a failed process still counts."""
        run = outside.run_python

        def fill(argv: list[str], say: Callable[[str], None]) -> tuple[int, str]:
            def full(path: Path, content: str) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

            monkeypatch.setattr("rackwright.iteration.work.write_atomic", full)
            monkeypatch.setattr("rackwright.iteration.report.write_atomic", full)
            return run(argv, say)

        monkeypatch.setattr(outside, "run_python", fill)
        error = refused(asked(), outside, 4)
        assert str(error).startswith(
            f"tune: {work(project)}/state.json: no space is left on its drive. Free some space."
        )
        assert "Run `rackwright server iterate serving digits --data " in str(error)
        assert error.report is not None and error.report["outcome"] == "failed"
        assert "  the report cannot be written: No space left on device" in outside.messages

        monkeypatch.undo()
        monkeypatch.setattr(outside, "run_python", fill)
        outside.status["training"] = 3
        outside.output["training"] = ["error: out: no space is left on its drive"]
        assert "status 3: out: no space is left on its drive" in str(refused(asked(), outside, 3))

    def test_a_log_that_takes_no_more_ends_no_training(self, project: Path, asked: Ask, outside: FakeActions) -> None:
        iterate(asked(until=Stage.FIND), outside)
        (work(project) / "processes.log").symlink_to("/dev/full")
        assert iterate(asked(until=Stage.TUNE), outside)["outcome"] == "tuned"
        assert f"  {work(project)}/processes.log cannot be written: No space left on device" in outside.messages

    def test_a_training_that_crashes_before_its_start_leaves_no_earlier_result(
        self, asked: Ask, outside: FakeActions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The result in its directory is that of an earlier start with another limit."""
        iterate(asked(until=Stage.TUNE), outside)
        monkeypatch.setattr(outside, "_train", lambda argv, status: None)
        outside.status["training"], outside.output["training"] = 1, ["error: parent: it is damaged"]
        assert "status 1: parent: it is damaged" in str(refused(asked(limits=Limits(0.02)), outside, 4))

    def test_a_training_that_was_asked_to_stop_is_not_finished(
        self, asked: Ask, outside: FakeActions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outside, "_train", lambda argv, status: None)
        assert "tune: python -m workloads.training: the process failed with status 0" in str(
            refused(asked(), outside, 4)
        )
