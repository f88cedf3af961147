"""Line 4: more requests per second than others, with the same model, cores and load."""

import json
import sys

from tests.accept.harness import Log, check, need

FLOOR, AIM = 1.5, 2.0


@check("serving.4[peers]")
def more_requests_than_others(log: Log) -> str:
    """Three rounds of 60 s each, in both orders, beside LitServe and MLServer in environments of their own."""
    log("rackwright, litserve, mlserver: 3 rounds of 60 s")
    done = log.run([sys.executable, "-m", "tests.bench.serving"], timeout=3600)
    need(done.returncode == 0, f"the bench failed: {done.stderr.strip().splitlines()[-1:]}")
    told, [where, *_] = json.loads(done.stdout.splitlines()[-1]), done.stdout.splitlines()
    figures = ", ".join(
        f"{name} {each['per_second']:.0f}/s with p99 {each['p99_ms']:.1f} ms" for name, each in told["medians"].items()
    )
    ratios = " and ".join(f"{ratio} times {name}" for name, ratio in told["ratios"].items())
    need(all(ratio >= FLOOR for ratio in told["ratios"].values()), f"less than {FLOOR}: {ratios}; {figures}")
    return f"{ratios} (at least {FLOOR}, aim {AIM}): {figures}; {where}"
