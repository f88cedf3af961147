"""Line 1: conversations of each family of models and templates are learned as plain transformers computes them."""

import json
import os

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python, run_tests

FAMILIES = 12
"""Families of models, and of templates, at least."""


@line("models2", 1, part="isolation")
def test_conversations_have_the_loss_of_plain_transformers_one_by_one(log: Log) -> str:
    """20 conversations for each family, several in a row where the proof allows it, one in a row elsewhere."""
    directory = log.empty_directory()
    argv = [python(log), "-m", "tests.support.conversation_losses", str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = log.run(argv, ROOT, environment, timeout=1800)
    need(done.returncode == 0, f"the losses cannot be computed: {done.stderr.strip()[-300:]}")
    found = [json.loads(each) for each in done.stdout.splitlines() if each.startswith("{")]
    need(len(found) >= FAMILIES, f"{len(found)} families")
    need(all(each["conversations"] == 20 for each in found), "a family has not 20 conversations")
    wrong = [each["family"] for each in found if each["proved"] != each["is_apart"]]
    need(not wrong, f"the proof errs for {wrong}")
    need(all(each["same_answers"] for each in found), "other tokens are learned than the answers with their ends")
    worst = max(each["difference"] for each in found)
    need(worst < 1e-6, f"a loss differs by {worst:.2g}")
    leaking = [each for each in found if not each["proved"]]
    mixed = min(each["packed_difference"] for each in leaking)
    need(mixed > 1e-5, f"shared rows of a model that mixes them differ by only {mixed:.2g}: the check sees nothing")
    together = sum(each["examples"] < 20 for each in found)
    figures = f"{len(found)} families with 20 conversations each, {together} of them in shared rows: losses differ by"
    return f"{figures} at most {worst:.1g}; in shared rows those of the others would by at least {mixed:.1g}"


@line("models2", 1, part="templates")
def test_answers_follow_the_prompts_of_each_chat_template(log: Log) -> str:
    """20 conversations for each template, with thoughts, calls, systems and several turns."""
    return run_tests(
        log, "tests/workloads/training/test_chat_template.py", "tests/workloads/training/test_isolation.py"
    )
