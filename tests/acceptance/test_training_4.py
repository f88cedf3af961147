"""Line 4: what cannot run is refused before the first step, naming value, what is wanted and how to mend it."""

from pathlib import Path

from tests.support.acceptance import line
from tests.support.diagnostics import sentences
from tests.support.expect import need
from tests.support.log import Log
from tests.support.workloads import module

ALONE: tuple[str, ...] = ()
HOROVOD = ("horovodrun", "-np", "2")
TORCHRUN = ("torchrun", "--nproc-per-node", "2")
CASES = (
    ("unknown recipe", ALONE, "digit", (), ("recipe: no such recipe, digit", "Write digits")),
    ("unknown value", ALONE, "digits", ("optimiser=sgd",), ("optimiser: got sgd", "Remove it")),
    (
        "batch and world",
        HOROVOD,
        "digits",
        ("global_batch=25",),
        ("global_batch: a batch of 25 cannot be divided by 2", "Write 24 or 26"),
    ),
    ("batch and data", ALONE, "digits", ("global_batch=2000",), ("a batch of 2000 is more", "1438 examples")),
    ("precision", ALONE, "digits", ("precision=fp16",), ("(CPU) does not support fp16", "Write auto or bf16")),
    ("memory", ALONE, "deepseek-v3", (), ("10.7 TB", "Use a smaller model")),
    ("device", ALONE, "digits", ("device=gaudi",), ("device: PyTorch finds no gaudi", "Write auto")),
    (
        "data",
        HOROVOD,
        "deepseek-v3-tiny",
        ("data.path=/gone",),
        (": data.path: /gone cannot be read: No such file", "Copy the text to this host"),
    ),
    (
        "torchrun",
        TORCHRUN,
        "digits",
        ("launcher=horovod",),
        ("the run was started by torchrun", "Start it with `horovodrun -np 2"),
    ),
    (
        "horovodrun",
        HOROVOD,
        "digits",
        ("launcher=torchrun",),
        ("the run was started by horovod", "Start it with `torchrun"),
    ),
    ("alone", ALONE, "digits", ("launcher=horovod",), ("the run was started by hand", "Start it with `horovodrun")),
)
"""The fault, the launcher, the recipe, the changes, and the words of the refusal."""


@line("training", 4)
def test_impossible_runs_are_refused_before_the_first_step(log: Log) -> str:
    directory = log.empty_directory()
    for number, (what, launcher, recipe, changes, says) in enumerate(CASES):
        log(what)
        _refused(log, directory / str(number), launcher, recipe, changes, says)

    log("a checkpoint of another model")
    trained = directory / "trained"
    module(log, "digits", "--out", str(trained), "--stop-at", "5")
    (trained / "metrics.jsonl").unlink()
    shape = ("checkpoint of step 5: its weight first.bias has shape 32", "shape 8, as in the model of this run")
    _refused(log, trained, ALONE, "digits", ("model.channels=8",), shape)
    return f"{len(CASES) + 1} wrong runs refused before their first step, each with what would do"


def _refused(
    log: Log, out: Path, launcher: tuple[str, ...], recipe: str, changes: tuple[str, ...], says: tuple[str, ...]
) -> None:
    given = [argument for change in changes for argument in ("--set", change)]
    # both launchers turn a status of their processes into 1
    done = module(log, recipe, "--out", str(out), *given, launcher=launcher, status=1 if launcher else 2)
    output = sentences(done.stdout + done.stderr)
    missing = [text for text in says if text not in output]
    need(not missing, f"{recipe} {' '.join(changes)} is refused without {missing}: {output[-300:]}")
    metrics = out / "metrics.jsonl"
    need(not metrics.exists() or '"loss"' not in metrics.read_text(), f"{recipe} {' '.join(changes)} took a step")
