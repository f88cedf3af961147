"""Line 6: `make train` and the tutorial work as pasted, and our loop costs next to nothing over plain PyTorch."""

import json

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.tutorials import paste, train
from tests.support.workloads import python

MOST_PERCENT = 3.0


@line("training", 6, part="pasted")
def test_the_training_tutorial_works_as_pasted(log: Log) -> str:
    made = train(log, f"OUT={log.empty_directory() / 'made'}")
    lines, printed = paste(log, "guides/train.md")
    need("refused, status 2" in printed, "the model that is too large was not refused")
    need("not published, status 1" in printed, "the child that forgets was published")
    led = "Horovod" if "launcher: Horovod" in made else "torchrun"
    return f"make train (by {led}) and {lines} lines of the tutorial ran"


@line("training", 6, part="overhead")
def test_the_training_loop_costs_little_over_plain_pytorch(log: Log) -> str:
    done = log.run([python(log), "-m", "benchmarks.training"])
    need(done.returncode == 0, f"the bench failed: {done.stderr.strip().splitlines()[-1:]}")
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    message = "; ".join(
        f"{f['recipe']} {f['ours_ms']} against {f['plain_ms']} ms, {f['overhead_percent']} %" for f in figures
    )
    need(
        all(figure["overhead_percent"] <= MOST_PERCENT for figure in figures), f"more than {MOST_PERCENT} %: {message}"
    )
    return f"processor time per step: {message} (at most {MOST_PERCENT} %)"
