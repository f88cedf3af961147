"""A host may answer whatever it likes: a value of another form is not known, and no command ends in a traceback."""

import base64
import re
import zlib
from pathlib import Path

import pytest

from rackwright.core.contract import Plan
from rackwright.errors import HostUnreachable
from rackwright.facts import probe, snapshot
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unknown_facts import refuse_unknown

STRANGE = (None, 1, "x", [[]], [None], True)


@pytest.mark.parametrize("raw", STRANGE)
@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("drives", lambda facts: facts.drives[0].name),
        ("arrays", lambda facts: facts.arrays[0].uuid),
        ("mounts", lambda facts: facts.mounts[0].target),
        ("links", lambda facts: facts.links[0].mtu),
        ("users", lambda facts: facts.user("a").uid),
        ("files", lambda facts: facts.listing("/etc")),
        ("kernels", lambda facts: facts.kernels["a"].bootable),
        ("hardware", lambda facts: facts.memory_bytes),
        ("measures", lambda facts: facts.measure("a")),
        ("initramfs", lambda facts: next(iter(facts.initramfs_times()))),
        ("dkms", lambda facts: facts.dkms("a")["x"]),
        ("object_store", lambda facts: facts.object_store.settings.buckets["b"]),
        ("tracking_accounts", lambda facts: facts.tracking_accounts["b"]),
        ("tracking_rights", lambda facts: facts.tracking_rights["b"]),
    ],
)
def test_a_section_of_another_form_is_not_known(key, read, raw):
    with pytest.raises(UnknownFact):
        read(Facts({"covers": {"files": ["/etc"]}, "directories": {}, key: raw}))


@pytest.mark.parametrize(
    "content", [[], "x", {"wrote": None}, {"wrote": [None]}, {"serials": "S1"}, {"phase": {}}, {"id": ["a", 1]}]
)
def test_an_owner_file_of_another_form_is_not_known(content):
    with pytest.raises(UnknownFact, match=r"facts.owners.tier-hot has a value of another form"):
        Facts({"owners": {"tier-hot": content}}).owner("tier-hot")


@pytest.mark.parametrize("raw", [1, True, [1]])
@pytest.mark.parametrize("key", ["signatures", "witnesses", "parts", "held", "sample"])
def test_a_part_of_a_drives_content_of_another_form_is_not_known(key, raw):
    drive = {"signatures": [], "witnesses": [], "parts": [], "held": [], "sample": [], "writes": 1, key: raw}
    [facts] = Facts({"drives": [drive]}).drives

    with pytest.raises(UnknownFact):
        assert facts.content is None


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        {"step": []},
        {"step": "7"},
        {"step": None},
        {"step": float("inf")},
        {"time": float("nan")},
        {"loss": 10**400},
    ],
)
def test_metrics_of_another_form_are_not_known(metrics):
    run = Facts({"runs": {"digits": {"ranks": {"metrics.jsonl": metrics}}}}).run("digits")

    with pytest.raises(UnknownFact, match="another form"):
        assert run.ranks


def test_lists_of_the_facts_are_read_by_rows_alone():
    """A new section that goes through its list itself would end in a traceback at the first host that lies."""
    folder = Path(probe.__file__).parents[1]
    texts = {path.name: path.read_text() for path in folder.glob("*.py") if path.name != "view.py"}

    assert [name for name, text in texts.items() if re.search(r"for \w+ in self\.read\(", text)] == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300, 10**400, [], "x"])
def test_a_number_without_end_is_not_known(number):
    with pytest.raises(UnknownFact, match="facts.taken_at has a value of another form"):
        _ = Facts({"taken_at": number}).taken_at


def test_no_expression_that_a_host_sends_is_matched():
    """``(a+)+$`` would take the operator's processor for ever."""
    facts = Facts({"covers": {"sysctls_left_out": ["(a+)+b"]}, "sysctls": {}})
    with pytest.raises(UnknownFact, match="settings that this version does not know"):
        facts.sysctl("a" * 64)


def test_an_answer_that_is_nested_without_end_is_no_answer():
    with pytest.raises(HostUnreachable, match="one line of compressed facts"):
        probe.parse(base64.b64encode(zlib.compress(b'{"a":' * 200_000)), "gpu-01")


def test_a_snapshot_that_is_nested_without_end_is_refused(tmp_path):
    path = snapshot.save(tmp_path, "gpu-01", Facts({"format": 1}))
    path.write_text("[" * 200_000)
    with pytest.raises(snapshot.SnapshotError, match="the facts of one host"):
        snapshot.read(path)


def test_a_plan_that_needs_what_is_not_known_is_refused():
    def make() -> Plan:
        raise UnknownFact("systemctl ended with 1")

    [refusal] = refuse_unknown("gpu-01/hot", make).refusals

    assert refusal.problem == "no plan is possible while a fact is unknown: systemctl ended with 1"
    assert refuse_unknown("gpu-01/hot", Plan) == Plan()
