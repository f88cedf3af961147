"""All rules, by id."""

from rackwright.audit.undeclared import (
    account_files,
    accounts,
    audit_log,
    boot,
    files,
    gpus,
    integrity,
    kernel,
    network,
    packages,
    packet_paths,
    pitfalls,
    processes,
    services,
    settings,
    software,
    storage,
    storage_behaviour,
)
from rackwright.audit.undeclared.rule import Rule

MODULES = (
    account_files,
    software,
    storage,
    storage_behaviour,
    accounts,
    services,
    kernel,
    network,
    packet_paths,
    processes,
    files,
    settings,
    pitfalls,
    gpus,
    audit_log,
    integrity,
    packages,
    boot,
)
RULES: dict[str, Rule] = {rule.id: rule for rule in sorted((r for m in MODULES for r in m.RULES), key=lambda r: r.id)}
"""Rules by id, sorted. An id of a removed rule is not used again."""
