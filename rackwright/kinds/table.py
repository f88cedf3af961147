"""The table of all kinds."""

from collections.abc import Mapping
from typing import Any

from rackwright.core.contract import Kind
from rackwright.kinds.bucket import BucketKind
from rackwright.kinds.cluster import ClusterKind, NodeKind
from rackwright.kinds.host import HostKind
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.network import NetworkKind
from rackwright.kinds.peers import PeersKind
from rackwright.kinds.pods import PodFilesKind, PodsKind
from rackwright.kinds.role import RoleKind
from rackwright.kinds.tier import TierKind
from rackwright.kinds.training_run import TrainingRunKind, TrainingWorkerKind

KINDS: Mapping[str, Kind[Any]] = {
    kind.token: kind
    for kind in (
        *(HostKind(), TierKind(), NetworkKind(), PeersKind(), RoleKind()),
        *(NodeKind(), ClusterKind()),
        *(TrainingWorkerKind(), TrainingRunKind(), ModelServerKind()),
        *(PodFilesKind(), PodsKind()),
        BucketKind(),
    )
}
"""The kinds by type token; the provider and the audit loop over this table."""

WORK = frozenset((TrainingWorkerKind.token, TrainingRunKind.token, ModelServerKind.token))
"""The type tokens of kinds that begin nothing on a host in quarantine."""
