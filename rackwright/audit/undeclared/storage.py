"""Rules about arrays, content of drives and mounts."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.facts.storage import DriveFacts
from rackwright.facts.view import View, optional

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "beegfs", "fuse.sshfs", "fuse.s3fs", "9p")
"""Filesystems of other machines."""
TABLES = ("gpt", "dos", "PMBR")
MEMBER, LVM, LUKS = "linux_raid_member", "LVM2_member", "crypto_LUKS"


def arrays(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    claimed = set(declared.names("md"))
    for array in facts.arrays:
        if array.md_name not in claimed and array.uuid not in claimed:
            yield Finding(f"md:{array.md_name}", f"{array.level} of {array.devices} devices, UUID {array.uuid}")


def _declared_drives(facts: Facts, declared: HostDeclaration) -> Iterator[DriveFacts]:
    """Yield the drives that the fleet lists for this host, without those that the system starts from."""
    serials = {drive.serial for drive in declared.host.drives if not drive.boot}
    return (drive for drive in facts.drives if drive.serial in serials)


def _signatures(facts: Facts, declared: HostDeclaration) -> Iterator[tuple[DriveFacts, str, str]]:
    """Yield drive, type and UUID of each signature on the declared drives and their partitions.

    The partitions of a drive in use are unknown: an array or the device mapper holds them, which other rules judge.
    """
    for drive in _declared_drives(facts, declared):
        for device in (drive, *(() if drive.holders else drive.rows("parts", View))):
            for signature in device.rows("signatures", View):
                yield drive, signature.value("type", str), signature.value("uuid", optional) or "none"


def lvm(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for drive, type, uuid in _signatures(facts, declared):
        if type == LVM:
            yield Finding(f"drive:{drive.serial}", f"a physical volume of LVM, UUID {uuid}")
    for drive in _declared_drives(facts, declared):
        if mapped := [name for name in drive.holders if name.startswith("dm-")]:
            yield Finding(f"drive:{drive.serial}", f"held by the device mapper: {', '.join(mapped)}")


def luks(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for drive, type, uuid in _signatures(facts, declared):
        if type == LUKS and not any(declared.names("luks")):
            yield Finding(f"drive:{drive.serial}", f"an encrypted volume, UUID {uuid}")


def contents(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield other content of the declared drives: what no declared tier put there."""
    in_tiers = {drive.serial for drive in declared.host.drives if drive.tier}
    provided = any(tier.filesystem is None for tier in declared.host.tiers.values())
    for drive, type, uuid in _signatures(facts, declared):
        is_expected = type in (LVM, LUKS) or type in TABLES or (type == MEMBER and drive.serial in in_tiers)
        if not is_expected and not (provided and drive.serial in in_tiers):
            yield Finding(f"drive:{drive.serial}", f"{type}, UUID {uuid}")


def mounts(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the mounts of arrays, of declared drives and of other machines that nothing declares."""
    ours = {target for drive in _declared_drives(facts, declared) for target in drive.mountpoints}
    claimed = set(declared.names("mount"))
    for mount in facts.mounts:
        is_ours = mount.target in ours or (mount.device or "").startswith(("md", "dm-"))
        is_system = mount.target in ("/", "/boot", "/boot/efi", "/usr", "/var", "/home")
        if mount.target not in claimed and ((is_ours and not is_system) or mount.type in NETWORK):
            yield Finding(f"mount:{mount.target}", f"{mount.type} on {mount.device or 'another machine'}")


def exports(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the directories that the host offers over NFS, from its files and from the running server."""
    for export in facts.nfs_exports:
        if not declared.declares_path(export.path):
            yield Finding(f"export:{export.directory}", f"to {', '.join(export.clients) or 'all'}, in {export.path}")


def kernel_names(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the devices that files of the system name as the kernel does at this boot."""
    for path, names in facts.kernel_names().items():
        if not declared.declares_path(path):
            for name in names:
                yield Finding(f"device:{path}:{name}", "the kernel gives this name to another drive after a change")


RULES = (
    Rule(
        "RW-010",
        "Each md array belongs to a tier.",
        "md arrays",
        "An array from an earlier life of the drives may start degraded, and hold drives that a tier needs.",
        f"Stop the array after a look at its content, adopt it with `rackwright adopt`, {ADMIT}",
        "md(4); siderolabs/talos#13786",
        arrays,
        scope="kernel",
    ),
    Rule(
        "RW-011",
        "No declared drive is a volume of LVM.",
        "volumes of LVM",
        "LVM activates such a volume at boot, and holds the drive.",
        f"Look at the volume with `pvs`, then remove it or {ADMIT.removeprefix('or ')}",
        "lvm(8); systemd/systemd#41926",
        lvm,
        scope="kernel",
    ),
    Rule(
        "RW-012",
        "Each encrypted volume on a declared drive belongs to a tier.",
        "encrypted volumes",
        "The key of such a volume may be lost, and its drive looks empty to filesystems.",
        f"Look at the header with `cryptsetup luksDump`, then remove it or {ADMIT.removeprefix('or ')}",
        "cryptsetup(8)",
        luks,
        scope="kernel",
    ),
    Rule(
        "RW-013",
        "Declared drives have no other content than that of their tiers.",
        "content of drives",
        "A tier that is made later refuses the drive, or data of others is lost by consent.",
        f"Look at the content, then wipe the drive by the consent of its tier, {ADMIT}",
        "wipefs(8); nix-community/disko#1247",
        contents,
        scope="kernel",
    ),
    Rule(
        "RW-014",
        "Each mount of an array, a declared drive or another machine is declared.",
        "mounts",
        "Jobs that write there lose their data at the next boot, or hang with the other machine.",
        f"Unmount it, declare it as a tier, {ADMIT}",
        "mount(8); nfs(5)",
        mounts,
        scope="kernel",
    ),
    Rule(
        "RW-015",
        "Each directory that the host exports over NFS is declared.",
        "exports of NFS",
        "Other machines read and write there by the ids that they claim to have.",
        f"Remove the line, then run `exportfs -ra`, {ADMIT}",
        "exports(5); exportfs(8)",
        exports,
        severity="error",
    ),
    Rule(
        "RW-114",
        "Files of mounts, encrypted volumes and arrays name drives by their identity.",
        "names of devices",
        "At another boot the name may belong to another drive, which is then mounted, opened or assembled.",
        "Write UUID= of the filesystem, or the path below /dev/disk/by-id",
        "fstab(5); linux-nvme/nvme-cli#2849; systemd/systemd#22692",
        kernel_names,
        scope="hardware",
    ),
)
