"""The entries of a role's ``meta/claims.yml``: one class for each sort, with the claim that it becomes.

An entry has one key that is its sort (``file``, ``package``, ``unit``, …), the keys of that sort, and optionally:

* ``when``: an expression; the entry counts only if it is true.
* ``each``: a list; the entry counts once for each ``item``.
* ``owned``, ``scope``, ``severity``, ``remedy``, ``remedy_absent``: as in Claim.
* ``by_hand``: only the operator can make the claim hold.
* ``restart``: the claim holds from the next start of the host's kernel.
* ``disturbs``: properties that the role changes only while no process uses a GPU.
* ``read_by``: the services that read a file, link or directory, and must have read its present version. ``pod:NAME`` is
  a container of a static pod. An active service also reads its unit file and its program: see reads.py.

Texts may hold ``{{ … }}`` over the role's variables, its ``names`` (computed in order), ``host``, ``fleet``,
``probe_program`` (the text of the probe), ``log_chain_program`` (the text of the program that chains the audit log),
``gpu_metrics_program``, ``drive_metrics_program``, ``service_metrics_program``, ``health_metrics_program``,
``audit_metrics_program`` and ``cluster_metrics_program`` (the programs that report metrics),
``verdict_receiver_program`` and ``verdict_reader_program`` (the receiver of alerts that signs verdicts, and their
reader on each host),
``krl`` (a function that returns a key revocation list), ``sha256`` and ``sha256_base64`` (functions that return a
text's digest), ``bcrypt`` and ``scram`` (functions that return the hash of a password for an account, the second one
for PostgreSQL), ``base64`` (a function that returns a text in base64), ``derived_authority``, ``derived_certificate``,
``derived_key`` and ``derived_public_key`` (functions that return the certificates and keys of an authority that follows
from a secret). The
filter ``canonical_address`` returns an IP address as the kernel lists it.
Names that begin with ``__`` are also variables of
the role's tasks.
"""

from collections.abc import Mapping

from rackwright.kinds.role.entries.accounts import Accounts, AuthorizedKeys, Factor, GroupEntry, UserEntry
from rackwright.kinds.role.entries.entry import Entry
from rackwright.kinds.role.entries.files import (
    AbsentFile,
    DirectoryEntry,
    FileEntry,
    LinkEntry,
    MountOption,
    PresentFile,
    StateEntry,
    VariablesEntry,
)
from rackwright.kinds.role.entries.gpus import Bridges, Cdi, GpuSetting, Reading
from rackwright.kinds.role.entries.kernel import BuiltModule, DkmsTree, Hostname, KernelParameter, Module, Sysctl
from rackwright.kinds.role.entries.network import NftablesEntry, RouteEntry, SocketEntry
from rackwright.kinds.role.entries.services import CertificateEntry, Certificates, Measure, ObjectStoreEntry, UnitEntry
from rackwright.kinds.role.entries.software import EnvironmentEntry, ImageEntry, Library, PackageEntry

_ENTRIES: tuple[type[Entry], ...] = (
    FileEntry, LinkEntry, DirectoryEntry, PresentFile, AbsentFile, PackageEntry, UnitEntry, Sysctl, Module,
    KernelParameter, EnvironmentEntry, BuiltModule, Library, GpuSetting, Cdi, ImageEntry, DkmsTree, Reading,
    Bridges, UserEntry, GroupEntry, AuthorizedKeys, Factor, SocketEntry, Accounts, StateEntry, VariablesEntry,
    CertificateEntry, ObjectStoreEntry, Hostname, Measure, MountOption, Certificates, NftablesEntry, RouteEntry,
)  # fmt: skip
SORTS: Mapping[str, type[Entry]] = {entry.sort: entry for entry in _ENTRIES}
"""The class of each sort of entries."""
