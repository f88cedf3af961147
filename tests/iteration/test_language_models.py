"""Iterations of language models: conversations, scores of the training, and an export in the served form."""

import json
import math
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest

from rackwright.iteration.candidates import StartingModel
from rackwright.iteration.family import IterationContext
from rackwright.iteration.gate import AccuracyTooLow, Limits
from rackwright.iteration.language_models import LanguageModels, shortfalls
from rackwright.iteration.process_runner import ProcessRunner
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.run import iterate
from rackwright.iteration.work import Work
from tests.iteration.chats import ALL, CHATS, Ask, LanguageActions, publish, refused, score, trained, work
from tests.iteration.conftest import TUNED
from workloads.recipes import RECIPES
from workloads.serving import model as model_directory


def test_new_conversations_become_a_served_model(chats: Path, ask: Ask, actions: LanguageActions) -> None:
    before = model_directory.read(chats / ".rackwright" / "models" / "digits").version
    report = iterate(ask(), actions)

    assert actions.names == ALL
    made = model_directory.read(work(chats) / "model")
    assert made.version in (chats / "stacks" / "serving.yaml").read_text()
    assert (report["outcome"], report["before"]["version"]) == ("served", before)
    assert report["after"] == {
        "version": made.version, "bytes": len("better# Made by us\n"), "precision": "bf16", "target": "llama.cpp",
    }  # fmt: skip
    assert list(report["stages"]) == ["find", "tune", "gate", "publish", "promote", "up"]
    assert report["accuracy"] == [
        {"data": "new conversations", "rows": 400, "before": 0.4, "tuned": 0.9, "after": None,
         "perplexity_before": math.exp(3.0), "perplexity_tuned": math.exp(0.5)},
        {"data": "text", "rows": 400, "before": 0.8, "tuned": 0.795, "after": None,
         "perplexity_before": math.exp(1.0), "perplexity_tuned": math.exp(1.1)},
    ]  # fmt: skip
    text = (work(chats) / "report.md").read_text()
    assert "| new conversations | 400 | 0.4000 | 0.9000 |  | 20.0855 | 1.6487 |" in text
    assert f"Before: version {before}, bf16 for llama.cpp, 0.0 KB" in text


def test_the_training_is_that_of_the_parent_with_conversations(chats: Path, ask: Ask, actions: LanguageActions) -> None:
    iterate(ask(changes=("tune.steps=60", "tune.global_batch=8"), limits=Limits(may_lose=0.02)), actions)
    config = json.loads((work(chats) / "run.json").read_text())

    assert config["data"] == {
        "kind": "conversations", "path": str(work(chats) / "data.jsonl"), "pattern": "*.jsonl",
        "tokenizer": "/srv/hot/model", "sequence_length": 1024, "held_out": 0.2, "packed": "auto",
        "masked_by": None,
    }  # fmt: skip
    assert (work(chats) / "data.jsonl").read_text() == CHATS
    assert config["model"] == RECIPES["lora"]().model_dump(mode="json")["model"]
    assert (config["fine_tuning"]["replay"], config["fine_tuning"]["may_lose"]) == (0.5, 0.02)
    assert (config["launcher"], config["world"], config["sharding"]) == ("any", None, "none")
    assert (config["steps"], config["global_batch"], config["schedule"]["kind"]) == (60, 8, "cosine")


def test_adapters_are_merged_and_the_form_stays_that_of_the_served_model(
    chats: Path, ask: Ask, actions: LanguageActions
) -> None:
    iterate(ask(), actions)
    directory = work(chats)
    assert actions.ran[1] == [
        "workloads.export", str(directory / "training"), "--to", "gguf", "--dtype", "bf16", "--out",
        str(directory / "export"), "--merge-adapters",
    ]  # fmt: skip
    assert actions.ran[2] == [
        "workloads.serving.gguf", str(directory / "export" / "model.gguf"), "--name", "chat", "--out",
        str(directory / "model"), "--replace", "--card", str(chats / ".rackwright" / "models" / "digits" / "card.md"),
    ]  # fmt: skip
    assert not (directory / "export").exists(), "the published model is a copy of it"


def test_a_whole_model_for_vllm_is_exported_as_a_directory(chats: Path, ask: Ask, actions: LanguageActions) -> None:
    """
    Apart from a stack: the check of one needs hosts with GPUs.
    """
    result, out = (
        LanguageModels().publish(for_vllm(chats, ask(changes=("publish.dtype=fp16",)), actions)),
        chats / "work",
    )

    assert (result["precision"], result["target"]) == ("fp16", "vllm")
    exported = ["--to", "huggingface", "--dtype", "fp16", "--out", str(out / "export")]
    assert actions.ran == [
        ["workloads.export", str(out / "training"), *exported],
        ["workloads.serving.vllm", str(out / "export"), "--name", "chat", "--out", str(out / "model"), "--replace"],
    ]


def for_vllm(chats: Path, request: IterationRequest, actions: LanguageActions) -> IterationContext:
    """Return the context of an iteration whose served model is for vLLM, after its fine-tuning."""
    served = StartingModel(chats, "v", 1, "vllm", "bf16", chats, "digest", trained(lora=None)["config"], "chat")
    found = asdict(served) | {"directory": str(chats), "checkpoint": str(chats)}
    out = chats / "work"
    out.mkdir()
    tuned = {"done": True, "came": {"scores": actions.scores}}
    run_python = ProcessRunner(actions.run_python, actions.progress, out / "processes.log")
    return IterationContext(request, Work(out, {"found": found, "stages": {"tune": tuned}}), run_python)


def test_a_model_for_vllm_is_quantised_between_export_and_publication(
    chats: Path, ask: Ask, actions: LanguageActions
) -> None:
    """
    Apart from a stack: the check of one needs hosts with GPUs.
    """
    context = for_vllm(chats, ask(changes=("publish.dtype=int4",), limits=Limits(may_lose=0.02)), actions)
    result = LanguageModels().publish(context)
    out = chats / "work"

    assert result["precision"] == "int4"
    judged = ["--training", str(out / "training"), "--may-lose", "0.02", "--out", str(out / "quantised")]
    assert actions.ran == [
        ["workloads.export", str(out / "training"), "--to", "huggingface", "--dtype", "bf16",
         "--out", str(out / "export")],
        ["workloads.quantize.language_model", str(out / "export"), "--to", "int4", *judged],
        ["workloads.serving.vllm", str(out / "quantised"), "--name", "chat", "--out", str(out / "model"),
         "--replace"],
    ]  # fmt: skip
    assert not (out / "export").exists() and not (out / "quantised").exists(), "the published model is a copy of both"
    assert [each["after"] for each in LanguageModels().figures(context.work)] == [0.85, 0.795]


def test_a_model_for_llama_cpp_in_8_bits_has_a_gate(chats: Path, ask: Ask, actions: LanguageActions) -> None:
    report = iterate(ask(changes=("publish.dtype=q8_0",), limits=Limits(may_lose=0.02), until=Stage.PUBLISH), actions)
    exported = next(argv for argv in actions.ran if argv[0] == "workloads.export")
    assert exported[exported.index("--dtype") + 1] == "q8_0"
    assert exported[exported.index("--may-lose") + 1] == "0.02"
    assert [each["after"] for each in report["accuracy"]] == [0.85, 0.795]
    text = (work(chats) / "report.md").read_text()
    assert "| new conversations | 400 | 0.4000 | 0.9000 | 0.8500 | 20.0855 | 1.6487 |" in text
    actions.quantized[0] = {"accuracy": 0.39, "loss": 0.6}
    text = refused(ask(changes=("publish.dtype=q8_0", "tune.steps=50"), until=Stage.PUBLISH), actions, 1)
    assert "publish: accuracy: the new model falls short: token accuracy 0.3900 on new conversations" in text


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"accuracy": 0.39, "loss": 0.6}, "token accuracy 0.3900 on new conversations, where the served model has 0.4"),
        ({"accuracy": 0.85, "loss": 3.1}, "perplexity 22.1980 on new conversations, where the served model has 20.0"),
    ],
)
def test_a_quantised_model_that_is_worse_than_the_served_one_is_refused(
    chats: Path, ask: Ask, actions: LanguageActions, figures: dict[str, float], message: str
) -> None:
    actions.quantized[0] = figures
    with pytest.raises(AccuracyTooLow, match=message):
        LanguageModels().publish(for_vllm(chats, ask(changes=("publish.dtype=int4",)), actions))


def test_a_quantisation_below_its_gate_is_refused(chats: Path, ask: Ask, actions: LanguageActions) -> None:
    actions.status["language_model"] = 1
    with pytest.raises(AccuracyTooLow, match="the quantised model fails its gate: 'language_model has ended'"):
        LanguageModels().publish(for_vllm(chats, ask(changes=("publish.dtype=fp8",)), actions))


@pytest.mark.parametrize("where", ["training", "export", "gguf", "up"])
def test_after_an_interruption_the_stage_continues(chats: Path, ask: Ask, actions: LanguageActions, where: str) -> None:
    actions.interrupts = where
    with pytest.raises(KeyboardInterrupt):
        iterate(ask(), actions)
    actions.interrupts, before = "", len(actions.names)
    assert iterate(ask(), actions)["outcome"] == "served"
    stage = {"training": ALL, "export": ALL[1:], "gguf": ALL[1:], "up": ALL[4:]}[where]
    assert actions.names[before:] == stage
    assert iterate(ask(), actions)["outcome"] == "served"
    assert actions.names[before:] == stage, "everything is done"


def test_the_publication_continues_after_a_crash_at_any_place(chats: Path, ask: Ask, actions: LanguageActions) -> None:
    actions.interrupts = "gguf"
    with pytest.raises(KeyboardInterrupt):
        iterate(ask(), actions)
    directory = work(chats)
    (directory / "export" / "lineage.json").unlink()  # it was being removed
    publish(directory / "model", b"the same", trained(TUNED))  # the state on the drive does not know of it yet

    actions.interrupts = ""
    assert iterate(ask(), actions)["outcome"] == "served"
    assert not (directory / "export").exists()


def test_the_next_iteration_starts_from_this_one(chats: Path, ask: Ask, actions: LanguageActions) -> None:
    iterate(ask(), actions)
    first = work(chats)
    (chats / "more.jsonl").write_text(CHATS * 2)
    actions.weights = b"best"
    report = iterate(ask(data=chats / "more.jsonl"), actions)
    assert report["parent"]["path"] == str(first / "training" / "checkpoints" / "step-0000000300")


class TestGate:
    def test_nothing_may_be_lost_on_new_conversations_in_either_figure(self) -> None:
        old = score("text", (0.8, 1.0), (0.8, 1.0))
        assert shortfalls([score("data.jsonl", (0.5, 1.0), (0.5, 1.0)), old], Limits(0.1)) == []
        [text] = shortfalls([score("data.jsonl", (0.5, 1.0), (0.49, 0.9)), old], Limits(0.1))
        assert text == "token accuracy 0.4900 on new conversations, where the served model has 0.5000"
        [text] = shortfalls([score("data.jsonl", (0.5, 1.0), (0.6, 1.1)), old], Limits(0.1))
        assert text == "perplexity 3.0042 on new conversations, where the served model has 2.7183"

    def test_old_data_may_lose_accuracy_to_a_limit_and_perplexity_is_shown_only(self) -> None:
        new = score("data.jsonl", (0.5, 1.0), (0.9, 0.1))
        assert shortfalls([new, score("text", (0.8, 1.0), (0.75, 2.0))], Limits(0.05)) == []
        [text] = shortfalls([new, score("text", (0.8, 1.0), (0.74, 1.0))], Limits(0.05))
        assert text == "token accuracy 0.7400 on text, where the served model has 0.8000"

    def test_a_gain_that_is_asked_for_is_one_on_new_conversations(self) -> None:
        old = score("text", (0.8, 1.0), (0.8, 1.0))
        for after, count in (0.54, 1), (0.55, 0), (math.nan, 1):
            tuned = [score("data.jsonl", (0.5, 1.0), (after, 0.9)), old]
            assert len(shortfalls(tuned, Limits(must_gain=0.05))) == count

    def test_a_few_tokens_judge_nothing(self) -> None:
        few = score("data.jsonl", (0.0, 9.0), (1.0, 0.1), answers=99)
        assert shortfalls([few], Limits(0.5)) == ["99 answer tokens of new conversations, of at least 100"]

    def test_a_training_without_scores_judges_nothing(self) -> None:
        assert shortfalls([], Limits(0.5)) == ["the training has no scores"]

    def test_a_figure_that_is_no_number_is_a_shortfall(self) -> None:
        assert shortfalls([score("data.jsonl", (0.5, 1.0), (math.nan, 1.0))], Limits(0.5))
        assert shortfalls([score("data.jsonl", (0.5, 1.0), (0.6, math.nan))], Limits(0.5))

    def test_a_refusal_has_status_1_and_promotes_nothing(self, chats: Path, ask: Ask, actions: LanguageActions) -> None:
        actions.scores[1] = score("text", (0.8, 1.0), (0.7, 1.0))
        actions.status["training"] = 1
        text, before = refused(ask(), actions, 1), (chats / "stacks" / "serving.yaml").read_text()
        assert "gate: accuracy: the new model falls short: token accuracy 0.7000 on text" in text
        assert "and none on new conversations" in text and "Add more conversations" in text
        assert actions.names == ["training"] and "version" not in before
        report = json.loads((work(chats) / "report.json").read_text())
        assert (report["outcome"], report["accuracy"][1]["tuned"]) == ("refused", 0.7)

    def test_an_export_with_other_logits_is_refused(self, ask: Ask, actions: LanguageActions) -> None:
        actions.status["export"] = 1
        actions.output["export"] = [
            "error: --dtype q8_0: the rounded model falls short: a",
            "  help:     Export in bf16",
        ]
        text = refused(ask(), actions, 1)
        assert (
            "the export fails its check: --dtype q8_0: the rounded model falls short: a; the logits of the trained"
            in text
        )
        assert actions.names == ["training", "export"]

    def test_an_export_that_crashes_is_no_verdict(self, ask: Ask, actions: LanguageActions) -> None:
        """Python ends with status 1 after an exception, as the export does if it refuses."""
        actions.status["export"] = 1
        actions.output["export"] = ["Traceback (most recent call last):", '  File "x", line 1', "MemoryError: 9 GiB"]
        text = refused(ask(), actions, 4)
        assert "publish: python -m workloads.export: the process failed with status 1: MemoryError: 9 GiB" in text

    @pytest.mark.parametrize("name", ["export", "gguf"])
    def test_a_process_that_fails_is_named(self, ask: Ask, actions: LanguageActions, name: str) -> None:
        actions.status[name] = 2
        assert f"{name}: the process failed with status 2" in refused(ask(), actions, 2)


class TestRefused:
    def test_data_of_no_family(self, chats: Path, ask: Ask, actions: LanguageActions) -> None:
        text = refused(ask(data=chats / "chats.txt"), actions, 2)
        assert "find: --data: " in text and "chats.txt is neither .npz, .jsonl nor .parquet" in text
        assert "(.npz) or conversations in JSON Lines or Parquet" in text

    def test_data_of_the_other_family(self, chats: Path, ask: Ask, actions: LanguageActions, asked: Ask) -> None:
        text = refused(asked(), actions, 2)
        assert "--data: digits serves a model of kind hugging-face; a model of kind image-classifier" in text
        assert "conversations (.jsonl, .parquet) for a language model" in text

    def test_data_that_is_missing(self, chats: Path, ask: Ask, actions: LanguageActions) -> None:
        assert "none.jsonl cannot be read: No such file" in refused(ask(data=chats / "none.jsonl"), actions, 2)

    def test_settings_and_stages_of_the_other_family(self, ask: Ask, actions: LanguageActions) -> None:
        text = refused(ask(changes=("quantize.repeats=5",), until=Stage.QUANTIZE), actions, 2)
        assert "'quantize.repeats=5' is not a setting of this iteration; tune.KEY=VALUE or publish.KEY=VALUE" in text
        assert "--until: an iteration with .jsonl data has no stage quantize; one of find, tune, gate, publish" in text

    def test_a_base_model_that_has_changed(self, chats: Path, ask: Ask, actions: LanguageActions) -> None:
        base = chats / "base"
        base.mkdir()
        for name in ("config.json", "model.safetensors"):
            (base / name).write_text(name)
        files = {each.name: sha256(each.read_bytes()).hexdigest() for each in base.iterdir()}
        training = trained() | {"base": {"path": str(base), "files": files}}
        publish(chats / ".rackwright" / "models" / "digits", b"good", training)
        (base / "model.safetensors").write_text("other weights")
        text = refused(ask(), actions, 2)
        assert "base: files of the base model are missing or have changed: model.safetensors; the base model" in text
        assert not actions.ran
        (base / "model.safetensors").write_text("model.safetensors")
        assert iterate(ask(until=Stage.TUNE), actions)["outcome"] == "tuned"

    def test_another_target(self, ask: Ask, actions: LanguageActions) -> None:
        assert "--target: got t4; no target: digits is served by llama.cpp" in refused(ask(target="t4"), actions, 2)

    def test_an_unknown_number_format(self, ask: Ask, actions: LanguageActions) -> None:
        assert "--set publish: dtype: got int3" in refused(ask(changes=("publish.dtype=int3",)), actions, 2)

    def test_a_format_of_the_other_runtime(self, ask: Ask, actions: LanguageActions) -> None:
        text = refused(ask(changes=("publish.dtype=int4",)), actions, 2)
        assert "--set publish.dtype: int4 is for vllm; one of fp32, bf16, fp16, q8_0 for llama.cpp" in text
        assert actions.names == []

    def test_a_training_without_a_tokenizer(self, chats: Path, ask: Ask, actions: LanguageActions) -> None:
        training = trained()
        training["config"] |= {
            "model": RECIPES["deepseek-v3-tiny"]().model_dump(mode="json")["model"],
            "data": {"kind": "text", "path": "text", "sequence_length": 64},
        }
        publish(chats / ".rackwright" / "models" / "digits", b"good", training)
        text = refused(ask(), actions, 2)
        assert "the training of the served model read bytes; a tokenizer with a chat template" in text
        assert not actions.ran
        iterate(ask(changes=("tune.data.tokenizer=/srv/tokenizer",)), actions)
        assert json.loads((work(chats) / "run.json").read_text())["data"]["tokenizer"] == "/srv/tokenizer"
