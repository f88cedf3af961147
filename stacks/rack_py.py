"""The example rack in Python, with loops and functions instead of the lists and groups of rack.yaml."""

from rackwright.schema import Bus, Drive, Fleet, Host, Identity, Login, Nic, Size, Ssh, Tier

SSH = Ssh(logins=(Login(name="admin", user="rackwright", agent=True),))


def fleet() -> Fleet:
    return Fleet(fleet="rack", hosts={"gpu-01": training(1), "gpu-02": inference(2)})


def training(number: int) -> Host:
    tiers = {
        "hot": Tier(level="raid10", filesystem="xfs", mount="/srv/hot"),
        "warm": Tier(level="raid6", filesystem="xfs", mount="/srv/warm"),
    }
    drives = nvme(number, 4, "3.84TB") + sas(number, 4, "12TB")
    return host(number, "training-a100", tiers, drives)


def inference(number: int) -> Host:
    tiers = {
        "hot": Tier(level="raid1", filesystem="ext4", mount="/srv/hot"),
        "warm": Tier(level="raid5", filesystem="xfs", mount="/srv/warm", chunk=Size("256KiB")),
    }
    drives = nvme(number, 2, "1.92TB") + sas(number, 3, "8TB")
    return host(number, "inference-t4", tiers, drives)


def host(number: int, profile: str, tiers: dict[str, Tier], drives: tuple[Drive, ...]) -> Host:
    """Return the host *number* of the rack; the number determines its names, serials and addresses."""
    mac, address = f"52:54:00:00:01:{number:02x}", f"10.30.0.{10 + number}/24"
    return Host(
        profile=profile,
        os="debian-12",
        address=f"10.20.0.{10 + number}",
        identity=Identity(serial=f"RW-GPU-{number:02}"),
        drives=(Drive(serial=f"RW{number:02}-BOOT", boot=True), *drives),
        nics=(Nic(name="fabric0", mac=mac, mtu=9000, addresses=(address,)),),
        tiers=tiers,
        ssh=SSH,
    )


def nvme(number: int, count: int, size: str) -> tuple[Drive, ...]:
    return members(number, "nvme", count, size, tier="hot")


def sas(number: int, count: int, size: str) -> tuple[Drive, ...]:
    return members(number, "sas", count, size, tier="warm")


def members(number: int, bus: Bus, count: int, size: str, tier: str) -> tuple[Drive, ...]:
    """Return the drives of a tier, one in each slot."""
    serials = (f"RW{number:02}-{bus.upper()}{slot}" for slot in range(count))
    return tuple(Drive(serial=serial, bus=bus, size=Size(size), tier=tier) for serial in serials)
