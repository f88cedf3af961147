"""A project whose server has a model, and the workloads as an iteration sees them: processes that write files."""

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rackwright.fleet.edit_server import replace_model
from rackwright.iteration.request import IterationRequest
from rackwright.stack import load_stack
from rackwright.stack.server_model import model_to_serve
from rackwright.status import servers
from rackwright.toolchain import workloads
from tests.support.preloaded import preloaded
from tests.support.stack_settings import configure, new_project
from workloads.recipes import RECIPES
from workloads.serving import model as model_directory
from workloads.serving.model import Tensor

if TYPE_CHECKING:
    from tests.iteration.chats import LanguageActions

HOSTS = Path(__file__).parents[1] / "fleet" / "wrong_runs" / "pair.yaml"
FLEET = """\
fleet: serving
uses: pair.yaml
servers:
  digits:
    model: {path: .rackwright/models/digits}  # as published
    hosts: [cinder, ember]
    anybody: true
"""
MANIFEST, TUNED = b"the manifest of a checkpoint", b"that of one that was tuned"


def publish(directory: Path, content: bytes, lineage: dict[str, Any], replace: bool = True) -> str:
    """Publish a model that keeps all of its accuracy, and return its version."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    weights = directory.parent / "weights"
    weights.write_bytes(content)
    tensor = Tensor(name="x", datatype="FP32", shape=(-1, 8, 8))
    values = {"gate": {"found": {"accuracy_kept": 1.0}}, "target": "cpu", "precision": "int8", **lineage}
    files = {"model.onnx": weights}
    made = model_directory.publish(directory, files, "digits", (tensor,), (tensor,), values, replace=replace)
    return made.version


def trained(checkpoint: bytes = MANIFEST) -> dict[str, Any]:
    """Return what a lineage says of the training of the digits that has *checkpoint*."""
    config = RECIPES["digits"]().model_dump(mode="json") | {"launcher": "horovod", "world": 8}
    return {"recipe": "digits", "step": 300, "config": config, "checkpoint": sha256(checkpoint).hexdigest()}


def checkpoint(directory: Path, content: bytes = MANIFEST) -> Path:
    path = directory / "checkpoints" / "step-0000000300"
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_bytes(content)
    return path


def rows(path: Path, content: bytes = b"rows", year: int = 2026) -> Path:
    """Write what stands for a file of NumPy's; nobody in these tests looks into its arrays."""
    with zipfile.ZipFile(path, "w") as file:
        for name in ("x.npy", "labels.npy"):
            file.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), content)
    return path


class FakeActions:
    """The workloads, the fleet's file and `rackwright up`, with what they are to answer."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.ran: list[list[str]] = []
        self.messages: list[str] = []
        self.status = {"training": 0, "launch": 0, "compare": 0, "quantize": 0, "up": 0}
        self.parent, self.own = 0.5, 0.9
        """Accuracy of the parent and its child on new rows, by the report of the training."""
        self.before = {"new": 0.5, "digits": 0.97}
        self.tuned = {"new": 0.9, "digits": 0.965}
        self.made = {"new": 0.9, "digits": 0.96}
        self.rows = 40
        self.interrupts = ""
        """The process, or `up`, in which somebody presses Ctrl-C."""
        self.weights = b"better"
        self.output: dict[str, list[str]] = {}
        """Lines that a process prints at its end, by its name."""

    @property
    def names(self) -> list[str]:
        """What was run, in this order, without its arguments."""
        return [argv[0].rpartition(".")[2] for argv in self.ran]

    def _begins(self, name: str, argv: Sequence[str]) -> int:
        self.ran.append(list(argv))
        if self.interrupts == name:
            raise KeyboardInterrupt
        return self.status[name]

    def run_python(self, argv: Sequence[str], say: Callable[[str], None]) -> tuple[int, str]:
        name = argv[0].rpartition(".")[2]
        status = self._begins(name, argv)
        if status in (0, 1):
            {"training": self._train, "launch": self._train, "compare": self._compare, "quantize": self._publish}[name](
                argv, status
            )
        return status, self._say(name, say)

    def _say(self, name: str, say: Callable[[str], None]) -> str:
        """Print the lines of a process, and return the last one."""
        lines = self.output.get(name, [f"{name} has ended"])
        for line in lines:
            say(line)
        return lines[-1]

    def _train(self, argv: Sequence[str], status: int) -> None:
        out = Path(argv[argv.index("--out") + 1])
        checkpoint(out, TUNED)
        parents = [{"accuracy": self.parent}, {"accuracy": 0.97}]
        own = [{"data": "data.npz", "accuracy": self.own}, {"data": "digits", "accuracy": 0.97}]
        scores = [each | {"parent": parent} for each, parent in zip(own, parents, strict=True)]
        content = {
            "checkpoint": sha256(TUNED).hexdigest(),
            "step": 100,
            "best_step": 50,
            "scores": scores,
            "published": not status,
        }
        (out / "lineage.json").write_text(json.dumps(content))

    def _compare(self, argv: Sequence[str], status: int) -> None:
        after = self.made if argv[2].endswith("/model") else self.tuned
        lines = [
            {"data": name, "rows": self.rows, "before": self.before[name], "after": after[name]}
            for name in ("new", "digits")
        ]
        Path(argv[argv.index("--out") + 1]).write_text(json.dumps(lines))

    def _publish(self, argv: Sequence[str], status: int) -> None:
        if not status:
            out, lineage = Path(argv[argv.index("--out") + 1]), {"source": {"training": trained(TUNED)}}
            publish(out, self.weights, lineage, replace="--replace" in argv)

    def promote(self, model: str) -> None:
        stack = load_stack("serving", self.project)
        path = self.project / "stacks" / "serving.yaml"
        path.write_text(replace_model(path, "digits", model_to_serve(stack, "digits", model)))
        self.ran.append(["promote", model])

    def declared_version(self) -> str:
        return servers.specs(load_stack("serving", self.project), "digits")[0].version

    def roll_out(self) -> int:
        return self._begins("up", ["up"])

    def progress(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "Pulumi.yaml").write_text("name: rackwright\n")
    new_project(tmp_path, monkeypatch, {"pair.yaml": HOSTS.read_text(), "serving.yaml": FLEET})
    configure(tmp_path, "serving", fleet="serving.yaml", target="twin:lab")
    publish(tmp_path / ".rackwright" / "models" / "digits", b"good", {"source": {"training": trained()}})
    checkpoint(tmp_path / ".rackwright" / "train")
    rows(tmp_path / "new.npz")
    return tmp_path


@pytest.fixture
def outside(project: Path) -> FakeActions:
    return FakeActions(project)


@pytest.fixture
def asked(project: Path) -> Callable[..., IterationRequest]:
    """Return a function that asks for an iteration of the project's server, as its fleet's file is then."""

    def ask(**more: Any) -> IterationRequest:
        return IterationRequest(load_stack("serving", project), "digits", more.pop("data", project / "new.npz"), **more)

    return ask


@pytest.fixture(scope="session")
def preloaded_interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program that starts processes of the workloads at once."""
    with preloaded(workloads.ensure(print).python, tmp_path_factory.mktemp("preloaded")) as program:
        yield program


@pytest.fixture
def interpreter(preloaded_interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same program, which iterations of this test find as that of the environment of the workloads."""
    environment = workloads.WorkloadsEnvironment(preloaded_interpreter.parents[1])
    monkeypatch.setattr(workloads, "ensure", lambda progress: environment)
    return preloaded_interpreter


@pytest.fixture
def chats(project: Path) -> Path:
    """Return the project, whose server has a language model."""
    from tests.iteration.chats import CHATS, publish, trained  # which imports this module

    publish(project / ".rackwright" / "models" / "digits", b"good", trained())
    text = FLEET.replace("anybody: true", "anybody: true\n    gate: {accuracy_kept: null}")
    (project / "stacks" / "serving.yaml").write_text(text)
    (project / "chats.jsonl").write_text(CHATS)
    return project


@pytest.fixture
def actions(chats: Path) -> "LanguageActions":
    from tests.iteration.chats import LanguageActions

    return LanguageActions(chats)


@pytest.fixture
def ask(chats: Path) -> Callable[..., IterationRequest]:
    def request(**more: Any) -> IterationRequest:
        data = more.pop("data", chats / "chats.jsonl")
        return IterationRequest(load_stack("serving", chats), "digits", data, **more)

    return request
