"""A project whose server has a language model, and the processes of its iterations."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rackwright.iteration.request import IterationRequest
from rackwright.iteration.run import StageFailed, iterate
from tests.iteration.conftest import MANIFEST, TUNED, FakeActions, checkpoint
from workloads.recipes import RECIPES
from workloads.serving import model as model_directory
from workloads.serving.model import Model

Ask = Callable[..., IterationRequest]
CHATS = '{"messages": [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "2"}]}\n'
ALL = ["training", "export", "gguf", "promote", "up"]


def trained(content: bytes = MANIFEST, dtype: str = "bf16", **model: Any) -> dict[str, Any]:
    """Return the training in the lineage of a published language model."""
    config = RECIPES["lora"]().model_dump(mode="json") | {"launcher": "torchrun", "world": 8, "sharding": "full"}
    config["model"] |= model
    return {"run": "lora", "checkpoint": sha256(content).hexdigest(), "config": config, "dtype": dtype}


def publish(
    directory: Path, content: bytes, training: dict[str, Any], runtime: Any = "llama.cpp", replace: bool = True
) -> Model:
    """Publish a language model with a card."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    weights, card = directory.parent / "weights", directory.parent / "card"
    weights.write_bytes(content)
    card.write_text("# Made by us\n")
    files = {"model.gguf": weights, "card.md": card}
    lineage = {"training": training}
    return model_directory.publish(directory, files, "chat", (), (), lineage, runtime=runtime, replace=replace)


def score(data: str, before: tuple[float, float], after: tuple[float, float], answers: int = 400) -> dict[str, Any]:
    """Return a score of a training; accuracy and loss of the parent are *before*, those of the child *after*."""
    parent = dict(zip(("accuracy", "loss"), before, strict=True))
    return {"data": data, "answers": answers, "accuracy": after[0], "loss": after[1], "parent": parent}


class LanguageActions(FakeActions):
    """The processes of a language model's iteration."""

    def __init__(self, project: Path) -> None:
        super().__init__(project)
        self.status = {
            "training": 0,
            "launch": 0,
            "export": 0,
            "language_model": 0,
            "gguf": 0,
            "vllm": 0,
            "up": 0,
            "trained": 0,
        }
        self.quantized = [{"accuracy": 0.85, "loss": 0.6}, {"accuracy": 0.795, "loss": 1.2}]
        self.answers = (0.5, 0.75)
        """Shares of questions that the served and the tuned model have right."""
        self.scores = [score("data.jsonl", (0.4, 3.0), (0.9, 0.5)), score("text", (0.8, 1.0), (0.795, 1.1))]

    def run_python(self, argv: Sequence[str], say: Callable[[str], None]) -> tuple[int, str]:
        name = argv[0].rpartition(".")[2]
        status, out = self._begins(name, argv), Path(argv[argv.index("--out") + 1])
        if name == "training" and status in (0, 1):
            checkpoint(out, TUNED)
            record = {
                "checkpoint": sha256(TUNED).hexdigest(), "step": 100, "scores": self.scores, "published": not status,
            }  # fmt: skip
            (out / "lineage.json").write_text(json.dumps(record))
        if name == "trained" and not status:
            file = Path(argv[argv.index("--choices") + 1])
            entry = {"data": file.name, "kind": "choices", "sha256": sha256(file.read_bytes()).hexdigest(), "rows": 8}
            before, after = ([{**entry, "accuracy": accuracy}] for accuracy in self.answers)
            out.write_text(json.dumps({"before": before, "after": after}))
        if name == "export" and not status:
            out.mkdir()
            (out / "lineage.json").write_text(json.dumps({"quantization": {"gate": {"after": self.quantized}}}))
        if name == "language_model" and not status:
            out.mkdir()
            out.with_name(f"{out.name}.report.json").write_text(json.dumps({"gate": {"after": self.quantized}}))
        if name in ("gguf", "vllm") and not status:
            runtime = "vllm" if name == "vllm" else "llama.cpp"
            publish(out, self.weights, trained(TUNED), runtime, replace="--replace" in argv)
        return status, self._say(name, say)


def work(project: Path) -> Path:
    [found] = (project / ".rackwright" / "iterations" / "digits").iterdir()
    return found


def refused(request: IterationRequest, actions: FakeActions, status: int) -> str:
    with pytest.raises(StageFailed) as error:
        iterate(request, actions)
    assert error.value.exit_status == status
    return str(error.value)
