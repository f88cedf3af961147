"""The figures of a language model on local data, in this process, by transformers.

Quantised weights are loaded as numbers of the model's own type, so that any device measures the rounding of the
weights. Rounding of activations, which vLLM adds to FP8 on GPUs, is not in the figures.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from workloads.errors import Diagnostic, UserError
from workloads.evaluation.data import EvaluationData
from workloads.foreign import parse_json, parse_object, read_file, read_whole
from workloads.training import data as training_data
from workloads.training import evaluation
from workloads.training.device import select_device
from workloads.training.fine_tuning import HeldOutSet
from workloads.training.lineage import NAME as LINEAGE
from workloads.training.lineage import UNTIL
from workloads.training.models import SAFE, LanguageModel
from workloads.training.parent_model import parse_data
from workloads.training.precision import Precision
from workloads.training.tokenizer import load_tokenizer
from workloads.training.workers.workers import Alone

# Shape letters: S tokens, V tokens of the vocabulary.

ADDED = ("examples", "sha256", "left_out", UNTIL)
"""Entries of a data set in a run's lineage that are no settings of it."""
BATCH = 4
"""Examples of a training that are evaluated at once."""
AS_IT_IS = Precision("fp32", "the weights have the type of the model")
Results = list[dict[str, Any]]


class ModelMeter:
    """The data that measure a model, and the device that computes."""

    def __init__(
        self, files: Sequence[EvaluationData], held_out: Sequence[HeldOutSet], context_tokens: int, device: str
    ) -> None:
        self.files, self.held_out, self.context_tokens = files, held_out, context_tokens
        self.device = select_device(device, local_rank=0, local_world=1)

    def measure(self, directory: Path) -> Results:
        """Return the figures of the model in *directory*, in the form of `python -m workloads.evaluation`.

        Raises:
            UserError: transformers cannot load the model, or its files lack weights.
        """
        tokenizer = load_tokenizer(str(directory), str(directory)) if self.files else None
        return self.measure_model(load(directory).to(self.device.torch), tokenizer)

    def measure_model(self, model: Any, tokenizer: Any = None) -> Results:
        """Return the figures of *model*, which is on the device of this meter.

        Args:
            tokenizer: Its tokenizer; None without texts and choices.
        """
        with torch.inference_mode():
            results = [self._file(model, tokenizer, each) for each in self.files]
            results += [self._held_out(model, each) for each in self.held_out]
        return results

    def _file(self, model: Any, tokenizer: Any, data: EvaluationData) -> dict[str, Any]:
        rows = [parse_json(line, lenient=True) for line in read_whole(data.path).decode().splitlines() if line.strip()]
        figures = self._texts(model, tokenizer, rows) if data.kind == "texts" else self._choices(model, tokenizer, rows)
        return {"data": data.path.name, "kind": data.kind, "sha256": data.sha256, "rows": data.rows, **figures}

    def _texts(self, model: Any, tokenizer: Any, rows: Sequence[dict[str, str]]) -> dict[str, float]:
        nats, size = 0.0, 0
        for row in rows:
            size += len(row["text"].encode())
            for context, answers in windows(_encode(tokenizer, row["text"]), _first(tokenizer), self.context_tokens):
                nats -= self._log_probability(model, context, answers)
        return {"bits_per_byte": nats / math.log(2) / size}

    def _choices(self, model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        right = 0
        for row in rows:
            scores = [self._choice(model, tokenizer, row["question"], choice) for choice in row["choices"]]
            right += max(range(len(scores)), key=scores.__getitem__) == row["answer"]
        return {"accuracy": right / len(rows)}

    def _choice(self, model: Any, tokenizer: Any, question: str, choice: str) -> float:
        # without a token before the question, and both encoded together, as the harness does: a token may begin with
        # the blank between them
        context = _encode(tokenizer, question.rstrip()) or [_first(tokenizer)]
        whole = _encode(tokenizer, question + choice)
        answers = whole[len(context) :] or whole[-1:]
        room = max(self.context_tokens - len(answers) + 1, 1)
        before = (whole[: len(whole) - len(answers)] or context)[-room:]
        return self._log_probability(model, before, answers)

    def _log_probability(self, model: Any, context: Sequence[int], answers: Sequence[int]) -> float:
        """Return the sum of the log-probabilities of *answers* after *context*, in nats."""
        tokens_1S = torch.tensor([[*context, *answers][:-1]], device=self.device.torch)
        logits_SV = model(input_ids=tokens_1S, use_cache=False).logits[0, len(context) - 1 :].float()
        answers_S = torch.tensor(list(answers), device=self.device.torch)
        return -float(F.cross_entropy(logits_SV, answers_S, reduction="sum"))

    def _held_out(self, model: Any, held_out: HeldOutSet) -> dict[str, Any]:
        score = evaluation.score(LanguageModel(model), held_out.examples, BATCH, Alone(), self.device, AS_IT_IS)
        return {
            "data": held_out.name, "kind": "answers", "sha256": held_out.examples.digest(), "rows": held_out.answers,
            **score._asdict(),
        }  # fmt: skip


def windows(tokens: Sequence[int], first: int, size: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield a context and the tokens that it predicts, so that each of *tokens* is predicted once.

    A window has at most *size* tokens of input: one token of context, and the tokens before the last. The harness of
    `python -m workloads.evaluation` divides texts in the same way.

    Args:
        first: Token before a text.
    """
    for start in range(0, len(tokens), size):
        yield [tokens[start - 1] if start else first], list(tokens[start : start + size])


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _first(tokenizer: Any) -> int:
    """Return the token before a text: the beginning of a text, or its end, or else token 0."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def load(directory: Path) -> Any:
    """Return the model in *directory* on the CPU; quantised weights become numbers of the model's own type.

    Raises:
        UserError: transformers cannot load the model, or its files lack weights.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig, FineGrainedFP8Config
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        entry = getattr(AutoConfig.from_pretrained(directory, **SAFE), "quantization_config", None)
        options: dict[str, Any] = {"dtype": "auto", "use_safetensors": True, **SAFE}
        if entry:
            kept = {"modules_to_not_convert": entry.get("modules_to_not_convert")}
            is_fp8 = entry["quant_method"] == "fp8"
            plain = (
                FineGrainedFP8Config(dequantize=True, **kept) if is_fp8 else CompressedTensorsConfig(dequantize=True)
            )
            options["quantization_config"] = plain
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You passed `quantization_config`")  # on purpose: it sets dequantize
            model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        help = "Save the model again, as safetensors"
        raise UserError(
            Diagnostic(str(directory), f"transformers cannot load the model: {lines[0]}", help=help)
        ) from None
    wrong = sorted(
        {str(name) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in report[key]}
    )
    if wrong:
        problem, expected = f"the model and its files differ in {', '.join(wrong[:3])}", "each weight in its file"
        note = f"{len(wrong)} in all" if len(wrong) > 3 else ""
        raise UserError(Diagnostic(str(directory), problem, expected, "Report the model's architecture", note))
    return model.eval()


def held_out_sets(training: Path) -> list[HeldOutSet]:
    """Return the held-out part of each data set of the run in *training*, its own first.

    Raises:
        UserError: The directory is none of a run of a language model, or no data set has a held-out part.
    """
    try:
        found = parse_held_out(parse_object(read_file(training / LINEAGE))["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        problem, expected = f"the directory has no readable {LINEAGE}", "the directory of a run"
        raise UserError(Diagnostic(f"--training {training}", problem, expected, "Correct the path")) from None
    if not found:
        problem, expected = "the run holds no data out", "a run with held_out in its data"
        help = "Name texts or choices with --texts or --choices"
        raise UserError(Diagnostic(f"--training {training}", problem, expected, help))
    return found


def parse_held_out(entries: Sequence[Mapping[str, Any]]) -> list[HeldOutSet]:
    """Return the data sets of a run's lineage that have a held-out part, in their order."""
    configs: list[dict[str, Any]] = []
    for entry in entries:
        config = {key: value for key, value in entry.items() if key not in ADDED}
        if config not in configs:  # an earlier content of the same files is not there any more
            configs.append(config)
    sets = parse_data(configs)
    found = [HeldOutSet(each, training_data.held_out(each)) for each in sets]
    return [each for each in found if len(each.examples)]
