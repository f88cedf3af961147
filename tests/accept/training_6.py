"""Line 6: `make train` and the tutorial work as pasted, and our loop costs next to nothing over plain PyTorch."""

import json
import re

from tests.accept.harness import ROOT, Log, Short, check, need
from tests.accept.workloads import python

MOST_PERCENT = 3.0
TUTORIAL = ROOT / "docs" / "train.md"


@check("training.6[pasted]")
def the_tutorial_works_as_pasted(log: Log) -> str:
    out = log.empty_directory() / "made"
    log("make train")
    done = log.run(["make", "train", f"OUT={out}"])
    need(done.returncode == 0 and "finished at step 300 of 300" in done.stdout, f"make train: {done.stderr[-300:]}")
    blocks = re.findall(r"(?:^    .+\n)+", TUTORIAL.read_text(), re.M)
    script = "".join(block for block in blocks if "make train" not in block)
    log(f"{script.count(chr(10))} lines of {TUTORIAL.name}")
    pasted = log.run(["bash", "-e"], input=script)
    if pasted.returncode:
        raise Short(f"the tutorial ended with {pasted.returncode}: {pasted.stderr.strip().splitlines()[-1:]}")
    need("refused, status 2" in pasted.stdout, "the model that is too large was not refused")
    led = "Horovod" if "Horovod leads" in done.stdout else "torchrun"
    return f"make train (by {led}) and {script.count(chr(10))} lines of the tutorial ran"


@check("training.6[overhead]")
def our_loop_costs_next_to_nothing(log: Log) -> str:
    done = log.run([python(log), "-m", "tests.bench.training"])
    need(done.returncode == 0, f"the bench failed: {done.stderr.strip().splitlines()[-1:]}")
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    told = "; ".join(
        f"{f['recipe']} {f['ours_ms']} against {f['plain_ms']} ms, {f['overhead_percent']} %" for f in figures
    )
    need(all(figure["overhead_percent"] <= MOST_PERCENT for figure in figures), f"more than {MOST_PERCENT} %: {told}")
    return f"processor time per step: {told} (at most {MOST_PERCENT} %)"
