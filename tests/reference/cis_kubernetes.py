"""The page of the CIS Kubernetes Benchmark: each check with the state of the roles."""

from collections import Counter

from tests.reference.markdown import page, table
from tests.support.cis_kubernetes import SOURCE, checks

STATES = {"met": "met by rackwright", "kubeadm": "met by kubeadm", "open": "not met"}


def render() -> str:
    """Return docs/reference/cis-kubernetes.md."""
    rows = checks()
    counts = Counter(row["state"] for row in rows)
    summary = ", ".join(f"{counts[state]} {words}" for state, words in STATES.items())
    tested = sum("test" in row for row in rows)
    return page(
        "CIS Kubernetes Benchmark",
        SOURCE,
        "Roles `kubernetes_node` and `kubernetes_control_plane` beside version 1.11 of the benchmark. The numbers are "
        "those of the benchmark, the words are not. Checks about objects of users that no role makes are left out.",
        f"{len(rows)} checks: {summary}. `kubernetes.4[cis]` runs {tested} of them on a cluster and compares the "
        "result with this page.",
        table(
            ("check", "subject", "state", "note", "run"),
            (
                (row["id"], row["check"], STATES[row["state"]], row.get("note", ""), "yes" if "test" in row else "no")
                for row in rows
            ),
        ),
    )
