"""The measurement of a served model by lm-evaluation-harness, through the route /v1/completions.

The harness asks for the log-probabilities of prompts (`echo` and `logprobs`), which vLLM gives.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from workloads.errors import visible
from workloads.evaluation.data import EvaluationData
from workloads.evaluation.served import ServedModel, request_error

METRICS = {
    "choices": {"accuracy": "acc", "accuracy_by_length": "acc_norm"},
    "texts": {"bits_per_byte": "bits_per_byte"},
}
"""Names of figures in our reports, and in those of the harness. `accuracy_by_length` divides the log-probability of a
choice by its length, as acc_norm does."""
VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
TASK = "data"
PROGRESS_BAR = re.compile(r"\r[^\r\n]*?(?:it/s|s/it)\]")
LAST_LINES, LAST_BYTES = 20, 16 << 10
"""Most lines and bytes that are shown of the messages of libraries."""


@contextmanager
def library_settings() -> Iterator[None]:
    """Set the environment that the libraries read when they are imported, and remove their caches at the end."""
    with TemporaryDirectory(prefix="evaluation-") as cache:
        # the harness would leave a copy of all rows in the home directory
        os.environ |= {**VARIABLES, "HF_HOME": cache, "HF_DATASETS_CACHE": f"{cache}/datasets"}
        yield


def measure(model: ServedModel, data: Sequence[EvaluationData]) -> list[dict[str, Any]]:
    """Return a report for each of *data*: its digest, its rows, and the figures of *model*.

    The environment must be that of `library_settings`.

    Raises:
        UserError: The server does not answer.
    """
    reports = []
    for each in data:
        print(f"{each.path.name}: measuring {each.rows} {each.kind}", file=sys.stderr, flush=True)
        try:
            with _captured_messages(model.key):
                reports.append(_report(each, _evaluate(model, each)))
        except Exception as error:  # the libraries raise their own kinds
            raise request_error(model, error) from None
    return reports


def _evaluate(model: ServedModel, data: EvaluationData) -> dict[str, Any]:
    """Return the figures of *model* by the names of the harness."""
    from lm_eval import simple_evaluate

    for name in ("lm_eval", "asyncio"):  # what they log of a failed request has its headers, with the key
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    tasks: list[Any] = [_task(data)]
    results = simple_evaluate("local-completions", _arguments(model), tasks, log_samples=False, bootstrap_iters=0)
    figures: dict[str, Any] = results["results"][TASK]
    return figures


@contextmanager
def _captured_messages(key: str) -> Iterator[None]:
    """Keep what libraries and their processes write to stderr in a file; print its end, without *key*, on an error."""
    sys.stderr.flush()
    own = os.dup(2)
    with TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            os.dup2(own, 2)
            file.seek(max(0, file.tell() - LAST_BYTES))
            for line in _messages(file.read(LAST_BYTES), key):
                print(f"lm_eval: {line}", file=sys.stderr, flush=True)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(own, 2)
            os.close(own)


def _messages(content: bytes, key: str) -> list[str]:
    """Return the last lines of *content* without progress bars, which some calls of the harness always draw."""
    text = PROGRESS_BAR.sub("", content.decode(errors="replace"))
    lines = [line for line in (text.replace(key, "…") if key else text).split("\n") if line.strip()]
    return [visible(line) for line in lines[-LAST_LINES:]]


def _arguments(model: ServedModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "base_url": f"{model.url.rstrip('/')}/v1/completions",
        "header": {"Authorization": f"Bearer {model.key}"},
        "tokenizer_backend": "huggingface",
        "tokenizer": str(model.tokenizer),
        "num_concurrent": max(2, model.parallel),  # one at a time takes another path, which ignores authorities
        "max_length": model.context_tokens,
        "ca_cert_path": model.authorities or None,
    }


def _task(data: EvaluationData) -> dict[str, Any]:
    """Return the description of *data* that the harness reads. Source: its docs/task_guide.md."""
    task: dict[str, Any] = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.path.resolve())}},
        "test_split": "test",
        "metric_list": [{"metric": metric} for metric in METRICS[data.kind].values()],
    }
    if data.kind == "texts":
        return {**task, "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    # a choice follows its question as the file has it
    task["target_delimiter"] = ""
    columns = {"doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}"}
    return {**task, "output_type": "multiple_choice", **columns}


def _report(data: EvaluationData, results: dict[str, Any]) -> dict[str, Any]:
    figures = {name: float(results[f"{metric},none"]) for name, metric in METRICS[data.kind].items()}
    return {"data": data.path.name, "kind": data.kind, "sha256": data.sha256, "rows": data.rows, **figures}
