"""A host with the packet filter of a unit, and its neighbours, as network namespaces on one switch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.firewall import Firewall
from tests.support.model_server_spec import REPOSITORY
from tests.support.net_namespaces import Namespace, join, namespaces
from tests.support.packet_filters import HOST4, HOST6, OTHER4, OTHER6, control_group, load

STRANGER4, STRANGER6 = "10.9.0.3", "fd00:9::3"


@contextmanager
def unit_network(
    directory: Path, table: Firewall, loads: bool = True
) -> Iterator[tuple[dict[str, Namespace], list[dict[str, Any]], Path]]:
    """Yield a host with the table of a unit, the other host of its group, and a stranger; and what nft lists.

    The path is that of the control group of the unit.

    Args:
        loads: Whether the host has the table.
    """
    with control_group(table.unit) as group, namespaces(directory, "switch", "host", "other", "stranger") as made:
        made["switch"].ip("link add switch up type bridge")
        for name, addresses in {
            "host": (HOST4, HOST6),
            "other": (OTHER4, OTHER6),
            "stranger": (STRANGER4, STRANGER6),
        }.items():
            join(made["switch"], name, made[name], "fabric0")
            made["switch"].ip(f"link set {name} master switch")
            made[name].ip(
                f"address add {addresses[0]}/24 dev fabric0", f"address add {addresses[1]}/64 dev fabric0 nodad"
            )
        yield made, load(made["host"], firewall.text(table, REPOSITORY)) if loads else [], group
