"""Fleets that no host could carry out, and texts that become rights or lines, are refused with file and line."""

from pathlib import Path

import pytest

from rackwright.errors import UserError
from rackwright.schema.tier import SLOTS_MAX
from tests.support import limits
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.model_files import OTHERS, write_metadata
from tests.support.wrong_fleets import WRONG, check_refusals
from workloads.serving import model as model_directory

NUMBERS = ("numbers", "routes", "mount-long", "canary")
DRIVES = (SLOTS_MAX + 1, 5000)


@line("hardening2", 19, "limits")
def test_numbers_and_routes_that_do_not_fit_are_refused(log: Log) -> str:
    """A RAID1 of 5,000 drives, routes to the host's own subnet, `mtu: 01750` and a canary of 5 of 1 were accepted."""
    messages = check_refusals(log, "check", [WRONG / f"{name}.yaml" for name in NUMBERS])
    for drives in DRIVES:
        log(f"a RAID1 of {drives} drives")
        found = limits.errors(limits.tier(drives, 0))
        need(len(found) == 1 and found[0].startswith("fleet.yaml:"), f"a RAID1 of {drives} drives: {found}")
    numbers = [limits.HOST + f"    ssh:\n      port: {number}\n" for number in limits.NUMBERS]
    wrong = [text for text in numbers if not any("fleet.yaml:8: " in error for error in limits.errors(text))]
    need(not wrong, f"accepted: {wrong}")
    return (
        f"{messages} messages of {len(NUMBERS)} fleets, {len(DRIVES)} arrays, {len(numbers)} forms of numbers: refused"
    )


@line("hardening2", 19, "links")
def test_links_and_devices_in_a_model_are_refused(tmp_path: Path) -> str:
    """A model could have a link to a file of the operator, or to a device that never ends."""
    for number, (what, make) in enumerate(OTHERS.items()):
        place = tmp_path / str(number)
        place.mkdir()
        write_metadata(place, "model.onnx")
        make(place / "model.onnx")
        with pytest.raises(UserError, match="model.onnx"):
            model_directory.check_files(place, model_directory.read(place))
            need(False, f"{what} was accepted")
    return f"{len(OTHERS)} sorts of files that are none of the model: refused"


@line("hardening2", 19, "texts")
def test_groups_of_kubernetes_and_hostile_addresses_are_refused(log: Log) -> str:
    """Groups `system:…` as operators, `api.url` with CR LF, `check_url` with quotes and `cpus` of 400 digits passed."""
    messages = check_refusals(log, "check", [WRONG / "texts.yaml"])
    team = "clusters:\n  main:\n    control_plane: alpha\n    teams:\n      a:\n        memory: 1GiB\n        cpus: "
    counts = ["9" * 400, "9" * 5000, str(10**9 + 1), "0"]
    wrong = [
        count[:20]
        for count in counts
        if not any(":13: " in each for each in limits.errors(f"{limits.HOST}{team}{count}\n"))
    ]
    need(not wrong, f"accepted: {wrong}")
    return f"{messages} messages of one fleet, {len(counts)} numbers of processors: all refused with file and line"
