"""The comparison of a host before and after a rebuild: what differs, what may differ, and what is unknown."""

import copy
from fnmatch import fnmatchcase

import pytest

from rackwright.facts import rebuilt
from rackwright.facts.facts import Facts
from tests.support import recorded_facts


@pytest.fixture
def raw():
    return recorded_facts.raw(recorded_facts.TODAY)


def changed(raw, change):
    """Return the facts *raw*, and the facts after *change*."""
    after = copy.deepcopy(raw)
    change(after)
    return Facts(raw), Facts(after)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda raw: raw["identity"].update(hostname="b"), 'identity.hostname: "gpu-01" before, "b" now'),
        (lambda raw: raw["files"].pop("/etc/fstab"), "files./etc/fstab: "),
        (
            lambda raw: raw["files"].update({"/etc/new": {"mode": "0644"}}),
            'files./etc/new: absent before, {"mode": "0644"} now',
        ),
        (lambda raw: raw["drives"].pop(), "drives."),
        (lambda raw: raw["arrays"][1].update(level="raid0"), 'arrays.gpu-01:hot.level: "raid1" before, "raid0" now'),
        (lambda raw: raw.update(packages={"unknown": "no dpkg"}), "packages."),
    ],
)
def test_a_value_that_differs_is_shown_with_both_values(raw, change, line):
    before, after = changed(raw, change)

    found = rebuilt.differences(before, after)

    assert any(each.startswith(line) for each in found), found
    assert rebuilt.digest({"a": before}) != rebuilt.digest({"a": after})


def rename_kernel_names(raw):
    """Exchange the names of the first two drives, as another order of a start does."""
    first, second = raw["drives"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    members = raw["arrays"][1]["members"]
    members[0]["name"], members[1]["name"] = members[1]["name"], members[0]["name"]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(boot_id="other", taken_at=0.0),
        lambda raw: raw["files"]["/etc/fstab"].update(mtime_ns=1),
        lambda raw: raw["sysctls"].update({"vm.user_reserve_kbytes": "1"}),
        lambda raw: raw["mounts"].reverse(),
        lambda raw: raw["drives"].reverse(),
        lambda raw: raw["arrays"][1].update(uuid="74e41dde:f6095814:bf2fc35f:d6783e35"),
        lambda raw: raw["filesystems"][0].update(uuid="ddab764c-cd96-45dd-9d4d-84d0cc24b2b8"),
    ],
)
def test_a_volatile_value_and_the_order_of_rows_are_no_difference(raw, change):
    before, after = changed(raw, change)

    assert rebuilt.differences(before, after) == ()
    assert rebuilt.digest({"a": before}) == rebuilt.digest({"a": after})


def test_another_order_of_the_drives_at_a_start_is_no_difference(raw):
    before, after = changed(raw, rename_kernel_names)

    assert [line for line in rebuilt.differences(before, after) if line.startswith("arrays")] == []


def test_a_value_that_cannot_be_read_is_listed_as_unknown(raw):
    raw["packages"] = {"unknown": "no dpkg"}

    assert "packages" in rebuilt.unknown_paths(Facts(raw))


def test_the_uuid_of_the_machine_is_compared(raw):
    raw["identity"]["uuid"] = "ddab764c-cd96-45dd-9d4d-84d0cc24b2b8"
    before, after = changed(raw, lambda raw: raw["identity"].update(uuid="ffffffff-cd96-45dd-9d4d-84d0cc24b2b8"))

    assert [line.partition(":")[0] for line in rebuilt.differences(before, after)] == ["identity.uuid"]


@pytest.mark.parametrize("pattern", rebuilt.VOLATILE)
def test_every_volatile_fact_has_a_reason_and_is_a_fact_of_a_host(raw, pattern):
    def find(value, rest):
        if not rest:
            return True
        rows = rebuilt._by_name(value) if isinstance(value, list) else value
        return isinstance(rows, dict) and any(find(rows[key], rest[1:]) for key in rows if fnmatchcase(key, rest[0]))

    raw["files"] |= {
        "/etc/mdadm/mdadm.conf.d/hot.conf": {"digest": "a"},
        "/etc/systemd/system/srv.mount": {"digest": "b"},
    }

    assert rebuilt.VOLATILE[pattern]
    assert find(raw, pattern)


def test_an_unknown_value_is_not_counted(raw):
    known = rebuilt.count(Facts(copy.deepcopy(raw)))
    raw["files"]["/etc/fstab"]["digest"] = {"unknown": "it is too large"}

    assert rebuilt.count(Facts(raw)) == known - 1
