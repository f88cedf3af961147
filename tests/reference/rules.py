"""The page of the rules for undeclared things and pitfalls."""

from rackwright.audit.undeclared.table import RULES
from tests.reference.markdown import code, page, table

INTRODUCTION = """\
`rackwright audit` applies these rules to the facts of every host. `rackwright explain ID` prints one of them with its
reason. A thing that is meant to be there stands under [`allow`](fleet.md); the guide of the
[audit](../guides/undeclared.md) has an example.

A rule of severity `notice` does not change the exit status. A rule that needs a real kernel or real hardware is not
applied to a twin without it."""


def render() -> str:
    """Return docs/reference/rules.md."""
    rows = [
        (code(rule.id), rule.sentence, rule.severity, rule.scope, rule.remedy, rule.source) for rule in RULES.values()
    ]
    head = ("id", "rule", "severity", "needs", "remedy", "source")
    return page("Rules of the audit", "rackwright/audit/undeclared", INTRODUCTION, table(head, rows))
