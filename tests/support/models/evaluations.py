"""Evaluations of the small model that a real vLLM serves, as acceptance lines run them."""

import json
import os
from pathlib import Path

from rackwright.toolchain import workloads
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.models.protocol_cases import MODEL

WORDS = ("copper", "granite", "linen", "maple", "quartz", "silver", "timber", "velvet", "walnut", "zinc")


def write_data(directory: Path) -> tuple[Path, Path]:
    """Write questions and texts, and return their files."""
    questions = [
        {"question": f"Of which material is part {n}?", "choices": [f" {word}" for word in WORDS[n:] + WORDS[:n]][:3],
         "answer": n % 3}
        for n in range(len(WORDS))
    ]  # fmt: skip
    sentences = [{"text": f"The rack has {word} on its shelf number {n}."} for n, word in enumerate(WORDS)]
    for name, rows in (("choices.jsonl", questions), ("texts.jsonl", sentences)):
        (directory / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return directory / "choices.jsonl", directory / "texts.jsonl"


def evaluate(log: Log, url: str, choices: Path, texts: Path, *options: str) -> tuple[int, dict]:
    """Return the exit status of an evaluation and its report."""
    report = log.directory / ("again.json" if options else "report.json")
    argv = [
        str(workloads.evaluation(log).python), "-m", "workloads.evaluation", url, "--model", MODEL, "--tokenizer",
        str(log.directory / MODEL), "--choices", str(choices), "--texts", str(texts), "--context-tokens", "1024",
        "--out", str(report), *options,
    ]  # fmt: skip
    done = log.run(argv, ROOT, {**os.environ, "PYTHONPATH": str(ROOT)}, timeout=900)
    noise = [line for line in done.stderr.splitlines() if ": measuring " not in line]
    need(not noise or done.returncode > 1, f"the evaluation prints lines of libraries: {noise[:3]}")
    return done.returncode, json.loads(report.read_text()) if report.exists() else {}
