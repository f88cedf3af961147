"""The measurement of a served model by lm-evaluation-harness, through the route /v1/completions.

The harness asks for the log-probabilities of prompts (`echo` and `logprobs`), which vLLM gives.
"""

import logging
import os
import sys
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

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
    "TRANSFORMERS_VERBOSITY": "error",
}


def measure(model: ServedModel, data: Sequence[EvaluationData]) -> list[dict[str, Any]]:
    """Return a report for each of *data*: its digest, its rows, and the figures of *model*.

    It changes this process's environment: call it once, before anything imports the harness.

    Raises:
        UserError: The server does not answer.
    """
    with TemporaryDirectory(prefix="evaluation-") as cache:
        # the harness would leave a copy of all rows in the home directory
        os.environ |= {**VARIABLES, "HF_HOME": cache, "HF_DATASETS_CACHE": f"{cache}/datasets"}
        if not sys.stderr.isatty():
            os.environ["TQDM_DISABLE"] = "1"
        from lm_eval import simple_evaluate

        for name in ("lm_eval", "asyncio"):  # what they log of a failed request has its headers, with the key
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        tasks: list[Any] = [_task(number, each) for number, each in enumerate(data)]
        try:
            results = simple_evaluate(
                "local-completions", _arguments(model), tasks, log_samples=False, bootstrap_iters=0
            )
        except Exception as error:  # the libraries below it raise their own kinds
            raise request_error(model, error) from None
    return [_report(each, results["results"][_task_name(number)]) for number, each in enumerate(data)]


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


def _task_name(number: int) -> str:
    return f"data-{number}"


def _task(number: int, data: EvaluationData) -> dict[str, Any]:
    """Return the description of *data* that the harness reads. Source: its docs/task_guide.md."""
    task: dict[str, Any] = {
        "task": _task_name(number),
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
