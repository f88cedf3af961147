"""The page of the environment variables that runs and servers may have."""

from tests.reference.markdown import code, page, table
from workloads.process_variables import BY_SOURCE

INTRODUCTION = """\
`variables` of a [run](../guides/train.md#environment-variables) or server takes these names, each with a value of its
form."""


def render() -> str:
    """Return docs/reference/variables.md."""
    rows = [
        (code(name), form.description, source)
        for source, forms in BY_SOURCE.items()
        for name, form in sorted((name, form) for form, names in forms.items() for name in names.split())
    ]
    columns = ("variable", "value", "source of the name")
    return page("Environment variables", "workloads/process_variables.py", INTRODUCTION, table(columns, rows))
