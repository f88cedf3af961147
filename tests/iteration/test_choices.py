"""An iteration judged by questions with choices."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from rackwright.iteration.gate import Limits
from rackwright.iteration.request import Stage
from rackwright.iteration.run import iterate
from tests.iteration.chats import ALL, Ask, LanguageActions, refused, score, work
from workloads.serving import model as model_directory

QUESTION = '{"question": "Who owns rack 4?", "choices": [" team six", " team seven"], "answer": 1}\n'


class TestChoices:
    @pytest.fixture
    def exam(self, chats: Path) -> Path:
        path = chats / "exam.jsonl"
        path.write_text(QUESTION * 8)
        return path

    def test_both_models_are_asked_and_the_figures_are_recorded(
        self, chats: Path, ask: Ask, actions: LanguageActions, exam: Path
    ) -> None:
        report = iterate(ask(choices=exam), actions)
        directory = work(chats)
        assert actions.names == ["training", "trained", *ALL[1:]]
        assert actions.ran[1] == [
            "workloads.evaluation.trained", str(directory / "training"), "--choices", str(exam),
            "--out", str(directory / "choices.json"),
        ]  # fmt: skip
        digest = sha256(exam.read_bytes()).hexdigest()
        expected = {"data": "exam.jsonl", "sha256": digest, "questions": 8, "before": 0.5, "tuned": 0.75}
        assert report["choices"] == expected
        assert model_directory.read(directory / "model").lineage["iteration"]["choices"] == expected
        text = (directory / "report.md").read_text()
        assert (
            f"8 questions of exam.jsonl: 0.5000 right before, 0.7500 tuned. SHA-256 of the questions: {digest}" in text
        )

        exam.write_text(QUESTION * 9)
        before = len(actions.names)
        iterate(ask(choices=exam, until=Stage.GATE), actions)
        assert actions.names[before:] == ["trained"], "other questions are another gate"
        assert iterate(ask(until=Stage.GATE), actions)["choices"] is None

    def test_fewer_right_answers_are_refused_with_both_figures(
        self, chats: Path, ask: Ask, actions: LanguageActions, exam: Path
    ) -> None:
        actions.answers = (0.75, 0.5)
        text = refused(ask(choices=exam, limits=Limits(0.2)), actions, 1)
        assert (
            "gate: choices: the new model falls short: 0.5000 on 8 questions of exam.jsonl, where the served model has"
            " 0.7500; a loss of at most 0.2 on the questions; the model is not promoted. Add conversations"
        ) in text
        assert json.loads((work(chats) / "report.json").read_text())["choices"]["tuned"] == 0.5
        assert iterate(ask(choices=exam, limits=Limits(0.25)), actions)["outcome"] == "served"

    def test_a_floor_is_for_the_questions_if_there_are_any(
        self, ask: Ask, actions: LanguageActions, exam: Path
    ) -> None:
        limits = Limits(at_least=0.95)
        assert "0.7500 on 8 questions of exam.jsonl, of at least 0.95" in refused(
            ask(choices=exam, limits=limits), actions, 1
        )
        actions.answers = (0.5, 0.95)
        assert iterate(ask(choices=exam, limits=limits), actions)["outcome"] == "served", "0.9 by token is no matter"
        text = refused(ask(limits=limits), actions, 1)
        assert "token accuracy 0.9000 on new conversations, of at least 0.95" in text

    def test_rubbish_without_a_floor_has_a_warning(self, ask: Ask, actions: LanguageActions, exam: Path) -> None:
        actions.scores[0] = score("data.jsonl", (0.1, 9.0), (0.2, 8.0))
        report = iterate(ask(until=Stage.PUBLISH), actions)
        assert "its accuracy on new conversations is 0.2000, less than one half; --at-least" in report["warning"]
        assert iterate(ask(until=Stage.PUBLISH, choices=exam), actions)["warning"] == ""
        actions.answers = (0.25, 0.25)
        exam.write_text(QUESTION * 9)
        report = iterate(ask(until=Stage.PUBLISH, choices=exam), actions)
        assert "its accuracy on 8 questions of exam.jsonl is 0.2500, less than one half" in report["warning"]

    def test_wrong_questions_are_refused_before_the_training(
        self, chats: Path, ask: Ask, actions: LanguageActions, exam: Path
    ) -> None:
        exam.write_text(QUESTION * 7)
        assert "find: --choices: " in (text := refused(ask(choices=exam), actions, 2))
        assert "exam.jsonl has 7 questions; at least 8, for a verdict" in text
        exam.write_text("{}\n")
        assert "row 1 has not this form" in refused(ask(choices=exam), actions, 2)
        assert "cannot be read: No such file" in refused(ask(choices=chats / "none.jsonl"), actions, 2)
        assert actions.names == []

    def test_questions_that_change_during_the_training_judge_nothing(
        self, ask: Ask, actions: LanguageActions, exam: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = actions.run_python

        def change(argv: Sequence[str], say: Callable[[str], None]) -> tuple[int, str]:
            if argv[0] == "workloads.training":
                exam.write_text(QUESTION * 9)
            return run(argv, say)

        monkeypatch.setattr(actions, "run_python", change)
        assert "exam.jsonl has changed since the start" in refused(ask(choices=exam), actions, 2)

    def test_a_failed_measurement_is_no_verdict(self, ask: Ask, actions: LanguageActions, exam: Path) -> None:
        actions.status["trained"] = 2
        assert "gate: python -m workloads.evaluation.trained: " in refused(ask(choices=exam), actions, 2)
