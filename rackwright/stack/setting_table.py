"""The settings of a stack, in stacks/Pulumi.STACK.yaml below `config`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One setting, for the reference."""

    form: str
    """The value as one writes it."""
    effect: str
    is_virtual_only: bool = False
    """Whether only stacks of a twin have it."""


SETTINGS: Mapping[str, Setting] = {
    "fleet": Setting(
        "`FILE`", "The file of the fleet, in the folder of the settings or elsewhere in the project. Required."
    ),
    "target": Setting("`rack` or `twin:NAME`", "Real hosts, or the virtual twin NAME on this computer. Required."),
    "secrets": Setting(
        "a mapping of names",
        "The encrypted values of secrets, which `rackwright secret set` writes. A twin derives those that are not set,"
        " but for keys, certificates and URLs.",
    ),
    "object_stores": Setting(
        "`{STORE: URL}`",
        "Other URLs of object stores of the fleet, such as a server on this computer; a twin leaves the others out.",
    ),
    "containers": Setting(
        "`[HOST, …]`",
        "Hosts of the twin that are containers: a second to start, root needed, directories in the place of tiers. The"
        " others are virtual machines.",
        True,
    ),
    "without": Setting(
        "`[HOST, …]`",
        "Hosts that the twin leaves out, such as those of another system or processor than this computer's.",
        True,
    ),
    "environments": Setting(
        "`[NAME, …]`",
        "Environments of role `workloads` that the twin has, of those that the fleet declares; without it all. Those of"
        " training and of vLLM take 13 GB on each host. Runs and servers that need another one are left out.",
        True,
    ),
    "mirrors": Setting(
        "`lent`",
        "Hosts of the twin install from this computer's package mirrors, or with `mirror` in the fleet from its local"
        " repository.",
        True,
    ),
    "workloads": Setting(
        "`lent`",
        "Containers of the twin have this computer's PyTorch and Horovod, read-only. Role `workloads` on a container"
        " has precedence.",
        True,
    ),
}
"""All settings, by their names after ``rackwright:``."""
