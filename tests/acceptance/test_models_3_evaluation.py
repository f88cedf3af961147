"""Line 3, the gate: a model that a real vLLM serves is evaluated through our server, as transformers finds it to be."""

import json

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.models.evaluations import WORDS, evaluate, write_data
from tests.support.models.protocol_cases import MODEL
from tests.support.models.vllm_server import python, served

TOLERANCE = 0.01
"""Largest difference of bits per byte, as a share: vLLM and transformers round bf16 in different places."""


@line("models", 3, part="evaluation")
def test_a_served_model_has_the_figures_that_transformers_computes(log: Log) -> str:
    # without an adapter: with one, vLLM 0.32 for CPUs ends at log-probabilities of several prompts at once
    with served(log, parallel=4, has_adapter=False) as (reach, _):
        choices, texts = write_data(log.directory)
        truth = log.run([python(log), "-m", "tests.support.models.log_probabilities",
                         str(log.directory / MODEL), str(choices), str(texts)])  # fmt: skip
        need(truth.returncode == 0, f"transformers fails: {truth.stderr[-300:]}")
        wanted = json.loads(truth.stdout.splitlines()[-1])
        log("evaluating")
        first, report = evaluate(log, reach["url"], choices, texts)
        need(first == 0, f"the evaluation ended with {first}")
        found = {name: value for each in report["results"] for name, value in each.items() if name in wanted}
        off = abs(found["bits_per_byte"] / wanted["bits_per_byte"] - 1)
        need(found["accuracy"] == wanted["accuracy"] and off <= TOLERANCE, f"found {found}, wanted {wanted}")
        again, _ = evaluate(log, reach["url"], choices, texts, "--against", str(log.directory / "report.json"))
        need(again == 0, "the same model is worse than itself")
        refused, _ = evaluate(log, reach["url"], choices, texts, "--at-least", "1.01")
        need(refused == 1, "an accuracy that nothing has was reached")
    return (
        f"accuracy {found['accuracy']:.2f} on {len(WORDS)} questions, as computed by transformers; bits per byte "
        f"{found['bits_per_byte']:.3f}, {off:.2%} off; refused by a higher demand"
    )
