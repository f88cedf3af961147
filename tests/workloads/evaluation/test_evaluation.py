"""Evaluation: which data it takes, what its gate refuses, and what it says of a server that cannot be asked.

That its figures are those of the model is shown by acceptance, with a real model and vLLM.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.log import ROOT
from workloads.errors import UserError
from workloads.evaluation import gate
from workloads.evaluation.__main__ import main
from workloads.evaluation.data import SHOWN_PROBLEMS, read
from workloads.evaluation.served import ServedModel, check

QUESTION = {"question": "How many legs has a dog?", "choices": [" two", " four"], "answer": 1}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_rows_are_counted_and_the_file_has_a_digest(tmp_path: Path) -> None:
    one = read("choices", write(tmp_path / "one.jsonl", QUESTION, "", QUESTION))
    other = read("choices", write(tmp_path / "other.jsonl", QUESTION))

    assert (one.rows, other.rows) == (2, 1)
    assert one.sha256 != other.sha256


@pytest.mark.parametrize(
    "row",
    [
        "{", [], {**QUESTION, "answer": 2}, {**QUESTION, "answer": True}, {**QUESTION, "answer": -1},
        {**QUESTION, "choices": [" four"]}, {**QUESTION, "choices": ["", " four"]}, {**QUESTION, "question": ""},
    ],
)  # fmt: skip
def test_a_malformed_question_is_named_by_its_row(row: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 2 "):
        read("choices", write(tmp_path / "rows.jsonl", QUESTION, row))


def test_an_empty_file_and_many_problems(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty"):
        read("texts", write(tmp_path / "none.jsonl"))
    with pytest.raises(UserError) as caught:
        read("texts", write(tmp_path / "rows.jsonl", *[{"text": ""}] * 9))
    assert len(caught.value.diagnostics) == SHOWN_PROBLEMS


def report(accuracy: float = 0.8, bits: float = 1.5, digest: str = "a") -> dict[str, Any]:
    choices = {"data": "exam.jsonl", "kind": "choices", "sha256": digest, "rows": 9, "accuracy": accuracy}
    texts = {"data": "text.jsonl", "kind": "texts", "sha256": "b", "rows": 9, "bits_per_byte": bits}
    return {"results": [choices, texts]}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (report(), []),
        (report(accuracy=0.795, bits=1.51), []),
        (report(accuracy=0.78), ["accuracy 0.7800 on exam.jsonl, before 0.8000"]),
        (report(accuracy=float("nan")), ["accuracy nan on exam.jsonl, before 0.8000"]),
        (report(bits=1.6), ["1.6000 bits per byte on text.jsonl, before 1.5000"]),
        (report(bits=float("nan")), ["nan bits per byte on text.jsonl, before 1.5000"]),
        (report(digest="c"), ["exam.jsonl is not in the earlier report, or has changed since then"]),
    ],
)
def test_a_worse_model_falls_short(new: dict[str, Any], expected: list[str]) -> None:
    assert gate.shortfalls(new, report(), may_lose=0.01, at_least=None) == expected


def test_a_smallest_accuracy_needs_no_earlier_report() -> None:
    assert gate.shortfalls(report(), None, 0.01, at_least=0.8) == []
    assert gate.shortfalls(report(), None, 0.01, at_least=0.9) == ["accuracy 0.8000 on exam.jsonl, of at least 0.9"]


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    for content in ("{", "{}", '{"results": [{"kind": "choices"}]}', '{"results": [{"kind": "odd", "sha256": ""}]}'):
        with pytest.raises(UserError, match="the report of an evaluation"):
            gate.read_report(write(tmp_path / "report.json", content))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, answer = 401, {"error": "Unauthorized"}
        if self.headers["authorization"] == "Bearer right":
            given = {"token_logprobs": [None, -1.0]} if body["model"] == "with" else None
            status, answer = 200, {"choices": [{"logprobs": given}]}  # type: ignore[dict-item]
        if body["model"] == "broken":
            status, answer = 500, {"error": "the engine has ended"}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_can_be_asked(url: str) -> None:
    check(ServedModel(url, "with", Path(), key="right"))


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [("with", "secret-key", "status 401"), ("without", "right", "no log-probabilities")],
)
def test_a_server_that_refuses_is_named_without_the_key(url: str, name: str, key: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check(ServedModel(url, name, Path(), key=key))
    assert caught.value.exit_status == 3
    assert key not in str(caught.value)


def test_a_server_that_has_failed_asks_for_a_look_into_its_log(url: str) -> None:
    with pytest.raises(UserError, match="the engine has ended") as caught:
        check(ServedModel(url, "broken", Path(), key="right"))
    assert "Look into the server's log" in str(caught.value.diagnostics[0].help)


def test_a_server_that_does_not_answer() -> None:
    with pytest.raises(UserError, match="refused"):
        check(ServedModel("http://127.0.0.1:9", "with", Path()))


def test_all_wrong_files_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = write(tmp_path / "rows.jsonl", {"text": "x"})
    status = main(
        ["http://127.0.0.1:9", "--model", "m", "--tokenizer", "t", "--choices", str(wrong), "--texts", "gone"]
    )

    assert status == 2
    errors = capsys.readouterr().err
    assert "row 1 has not this form" in errors and "gone cannot be read" in errors


HARNESS = """
import os, subprocess, sys
from huggingface_hub import constants
import tqdm

print("a warning of a library", file=sys.stderr)
subprocess.run(["sh", "-c", "echo fatal: not a git repository >&2"])

def simple_evaluate(model, arguments, tasks, **more):
    assert constants.HF_HOME == os.environ["HF_HOME"], "imported before its settings"
    [each for each in tqdm.tqdm(range(3), disable=False)]
    if os.environ.get("FAILS"):
        print("\x1b[31mthe disk of the cache is full, key right", file=sys.stderr)
        raise RuntimeError("no answer")
    [task] = tasks
    return {"results": {task["task"]: {"acc,none": 0.5, "acc_norm,none": 0.25, "bits_per_byte,none": 1.5}}}
"""
"""A harness that is as noisy as the real one and the libraries below it."""


@pytest.mark.skipif(find_spec("transformers") is None, reason="the environment has no tokenizers")
class TestOutput:
    def evaluated(self, url: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        from workloads.export.hugging_face import byte_tokenizer

        byte_tokenizer().save_pretrained(directory / "tokenizer")
        (directory / "lm_eval.py").write_text(HARNESS)
        choices, texts = (
            write(directory / name, row) for name, row in (("exam.jsonl", QUESTION), ("text.jsonl", {"text": "a"}))
        )
        path = os.pathsep.join(map(str, (directory, ROOT)))
        return subprocess.run(
            [sys.executable, "-m", "workloads.evaluation", url, "--model", "with", "--tokenizer",
             str(directory / "tokenizer"), "--choices", str(choices), "--texts", str(texts)],
            env={**os.environ, "PYTHONPATH": path, "RACKWRIGHT_SERVER_KEY": "right", **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def test_an_evaluation_prints_lines_of_its_own_alone(self, url: str, tmp_path: Path) -> None:
        done = self.evaluated(url, tmp_path)
        assert done.stderr == "exam.jsonl: measuring 1 choices\ntext.jsonl: measuring 1 texts\n"
        assert done.stdout == ("exam.jsonl: accuracy 0.5000, 1 choices\ntext.jsonl: bits per byte 1.5000, 1 texts\n")
        assert done.returncode == 0

    def test_a_failure_shows_the_messages_of_libraries_without_the_key(self, url: str, tmp_path: Path) -> None:
        done = self.evaluated(url, tmp_path, FAILS="1")
        first, *messages, error, _ = done.stderr.splitlines()
        assert first == "exam.jsonl: measuring 1 choices"
        assert messages == [
            "lm_eval: a warning of a library", "lm_eval: fatal: not a git repository",
            "lm_eval: \\x1b[31mthe disk of the cache is full, key …",
        ]  # fmt: skip
        assert error == f"error: {url}: a request failed: RuntimeError: no answer"
        assert done.returncode == 3
