"""Facts of an array that was made by hand."""

from tests.support.raw_facts import array, drive, mount
from tests.support.recorded_hosts import RESOURCES, recorded

SERIALS = [member.serial for member in RESOURCES["gpu-01/hot"].spec.members]
UUID = array(recorded("gpu-01"), "gpu-01:hot")["uuid"]


def theirs():
    """Return the facts of a hot tier made by hand: with another name, another mount point and a line of fstab."""
    raw = recorded("gpu-01")
    array(raw, UUID).update(md_name="box:0", member_bytes=509_000_000)
    mount(raw, "/srv/hot")["target"] = "/data/old"
    for serial in SERIALS:
        drive(raw, serial)["superblock"]["array_name"] = "box:0"
    for table in ("files", "texts", "units"):
        raw[table] = {name: entry for name, entry in raw[table].items() if "hot" not in name}
    raw["units"]["data-old.mount"] = {"load": "loaded", "active": "active", "enabled": "generated"}
    del raw["owners"]["tier-hot"]
    return raw
