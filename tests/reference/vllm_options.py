"""The page of the further options of vLLM that a server may have."""

from tests.reference.markdown import code, page, table
from workloads.serving.vllm_options import FORMS

INTRODUCTION = """\
`vllm.options` of a [server](../guides/serve-language-model.md#layout-gpus-and-features) takes these options of
`vllm serve` 0.32, each with a value of its form: `options: {max-num-batched-tokens: 16k}`. A switch may begin with
`no-`. None of them loads code, opens a listener, reads or writes a file for clients, or writes what clients ask into a
log. Other options follow from other settings, or are refused."""


def render() -> str:
    """Return docs/reference/vllm-options.md."""
    rows = [(code(name), form.description) for name, form in sorted(FORMS.items())]
    return page("Options of vLLM", "workloads/serving/vllm_options.py", INTRODUCTION, table(("option", "value"), rows))
