"""Line 3, fewer bits: a real vLLM serves weights of 4 bits with the figures that the gate measured."""

import json
import os
from pathlib import Path

from rackwright.toolchain import workloads
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.models.evaluations import WORDS, evaluate, write_data
from tests.support.models.vllm_server import served

TOLERANCE = 0.01
"""Largest difference of bits per byte, as a share: vLLM and transformers round bf16 in different places."""
NEAR_TIES = 2
"""Questions that may turn over: the model is not trained, so that all answers are nearly equally likely."""


@line("models", 3, part="quantised")
def test_a_served_model_in_4_bits_has_the_figures_of_its_gate(log: Log) -> str:
    data: dict[str, Path] = {}

    def quantize(model: Path) -> Path:
        choices, texts = write_data(log.directory)
        data.update(choices=choices, texts=texts)
        argv = [
            str(workloads.ensure(log).python), "-m", "workloads.quantize.language_model", str(model), "--to", "int4",
            "--choices", str(choices), "--texts", str(texts), "--context-tokens", "1024", "--may-lose", "0.2",
            "--device", "cpu", "--json", "--out", str(log.directory / "int4"),
        ]  # fmt: skip
        log("quantising")
        done = log.run(argv, ROOT, {**os.environ, "PYTHONPATH": str(ROOT)}, timeout=900)
        need(done.returncode == 0, f"the quantisation ended with {done.returncode}: {done.stderr[-300:]}")
        return log.directory / "int4"

    with served(log, parallel=4, has_adapter=False, prepare=quantize) as (reach, _):
        report = json.loads((log.directory / "int4.report.json").read_text())
        before, wanted = figures(report["gate"]["before"]), figures(report["gate"]["after"])
        log("evaluating")
        status, evaluation = evaluate(log, reach["url"], data["choices"], data["texts"])
        need(status == 0, f"the evaluation ended with {status}")
    found = figures(evaluation["results"])
    off = abs(found["bits_per_byte"] / wanted["bits_per_byte"] - 1)
    turned = round(abs(found["accuracy"] - wanted["accuracy"]) * len(WORDS))
    need(turned <= NEAR_TIES and off <= TOLERANCE, f"found {found}, wanted {wanted}")
    need(wanted["bits_per_byte"] != before["bits_per_byte"], "4 bits have the figures of 16")
    sizes = [report[name] / 1e6 for name in ("weight_bytes_before", "weight_bytes")]
    return (
        f"{sizes[0]:.1f} MB of weights became {sizes[1]:.1f} MB; {turned} of {len(WORDS)} questions answered otherwise "
        f"than in the gate; bits per byte {found['bits_per_byte']:.3f}, {off:.2%} off the gate's, where "
        f"16 bits have {before['bits_per_byte']:.3f}"
    )


def figures(results: list[dict]) -> dict[str, float]:
    """Return accuracy and bits per byte of *results*."""
    names = ("accuracy", "bits_per_byte")
    return {name: value for each in results for name, value in each.items() if name in names}
