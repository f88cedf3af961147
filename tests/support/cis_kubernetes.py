"""The checks of the CIS Kubernetes Benchmark, each with the state of the roles."""

import yaml

from tests.support.log import ROOT

SOURCE = "tests/support/cis_kubernetes.yaml"


def checks() -> list[dict[str, str]]:
    """Return the checks, in the order of the benchmark."""
    found: list[dict[str, str]] = yaml.safe_load((ROOT / SOURCE).read_text())
    return found
