"""What is compared with advisories, and that a snapshot which cannot tell never says that all is well."""

import json
import zipfile
from datetime import date
from pathlib import Path

import pytest

from tests import advisories
from tests.advisories import GO, PYPI, Allowed, BadInput, Locked, allowed, locks, main, read, report, semver

TODAY = date(2026, 11, 27)
LOCKED = Locked(PYPI, "jinja2", "3.1.2", "requirements/core.txt")


def record(name="Jinja2", ecosystem=PYPI, id="GHSA-1", versions=(), events=(), sort="ECOSYSTEM", **more):
    affected = {"package": {"ecosystem": ecosystem, "name": name}, "versions": list(versions)}
    if events:
        affected["ranges"] = [{"type": sort, "events": list(events)}]
    return {"id": id, "modified": "2026-11-20T00:00:00Z", "affected": [affected], **more}


def snapshot(directory: Path, *records, **described):
    for number, each in enumerate(records):
        (directory / f"{number}.json").write_text(json.dumps(each))
    if described:
        (directory / "SNAPSHOT.json").write_text(json.dumps(described))
    return read(directory)


def test_a_lock_is_read_with_every_name_and_version(tmp_path):
    (tmp_path / "core.txt").write_text("Foo_Bar==1.0 \\\n    --hash=sha256:00\nbaz==2 ; x\n    --hash=sha256:00\n")
    (tmp_path / "notes.txt").write_text("foo==1.0\n")
    (tmp_path / "go.mod").write_text(
        "module b\n\ngo 1.26\n\nrequire example.org/c v2.0.0+incompatible\n\n"
        "require (\n\texample.org/a v1.2.3 // indirect\n\texample.org/d v1.0.0\n)\n\n"
        "replace example.org/d => example.org/e v1.0.1\n"
    )

    assert sorted(locks(tmp_path, ["core.txt", "notes.txt", "go.mod"])) == [
        Locked(GO, "example.org/a", "1.2.3", "go.mod"),
        Locked(GO, "example.org/c", "2.0.0+incompatible", "go.mod"),
        Locked(GO, "example.org/e", "1.0.1", "go.mod"),
        Locked(PYPI, "baz", "2", "core.txt"),
        Locked(PYPI, "foo-bar", "1.0", "core.txt"),
    ]


def test_all_locks_of_the_repository_are_compared():
    listed = [str(path.relative_to(advisories.ROOT)) for path in (advisories.ROOT / "requirements").glob("*.txt")]
    names = {each.name for each in locks(advisories.ROOT, [*listed, "rackwright/toolchain/modules/cli/go.mod"])}

    assert {"jinja2", "pydantic", "paramiko", "pytest"} <= names and any("/" in name for name in names)


@pytest.mark.parametrize(
    ("given", "applies", "fixed"),
    [
        (record(versions=["3.1.2"]), True, "no fixed version"),
        (record(versions=["3.1.20"]), False, ""),
        (record(events=[{"introduced": "0"}, {"fixed": "3.1.3"}]), True, "fixed in 3.1.3"),
        (record(events=[{"fixed": "3.1.3"}, {"introduced": "0"}]), True, "fixed in 3.1.3"),
        (record(events=[{"introduced": "0"}, {"fixed": "3.1.2"}]), False, ""),
        (record(events=[{"introduced": "3.1.3"}]), False, ""),
        (record(events=[{"introduced": "3"}, {"last_affected": "3.1.2"}]), True, "no fixed version"),
        (record(events=[{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3.1"}]), True, "no fixed version"),
        (record(events=[{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3.2"}]), False, ""),
        (record(events=[{"introduced": "0"}], sort="GIT"), False, ""),
        (record(events=[{"introduced": "0"}], withdrawn="2026-01-01T00:00:00Z"), False, ""),
        (record("jinja2-other", events=[{"introduced": "0"}]), False, ""),
        (record("jinja2", "npm", events=[{"introduced": "0"}]), False, ""),
    ],
)
def test_an_advisory_applies_to_its_versions(tmp_path, given, applies, fixed):
    lines, status = report([LOCKED], snapshot(tmp_path, given, taken="2026-11-27", ecosystems=[PYPI]), (), TODAY)

    assert status == (1 if applies else 0)
    assert (f"jinja2 3.1.2: GHSA-1, severity not named, {fixed} (requirements/core.txt)" in lines) == applies


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("0.0.0-20230101000000-abcdef", "0.0.0-20240101000000-abcdef"),
        ("1.2.3-rc.1", "1.2.3"),
        ("1.2.9", "1.2.10"),
        ("1.2.3-1", "1.2.3-rc"),
        ("1.2", "1.2.1"),
        ("2.0.0+incompatible", "2.0.1+incompatible"),
    ],
)
def test_versions_of_go_are_ordered(smaller, larger):
    assert semver(smaller) < semver(larger) and semver(larger) == semver(f"v{larger}")


def test_a_module_of_go_is_compared(tmp_path):
    given = record("example.org/a", GO, events=[{"introduced": "0"}, {"fixed": "1.2.4"}], sort="SEMVER")
    found = snapshot(tmp_path, given, taken="2026-11-27", ecosystems=[GO])
    lines, status = report([Locked(GO, "example.org/a", "1.2.3", "go.mod")], found, (), TODAY)

    assert status == 1 and "example.org/a 1.2.3: GHSA-1" in lines[0]


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({"taken": "2026-11-27", "ecosystems": []}, "unknown: the snapshot has no advisories of PyPI, 1 locked"),
        (
            {"taken": "2026-08-01", "ecosystems": [PYPI]},
            "unknown: the snapshot is of 2026-08-01; it is good for 90 days",
        ),
    ],
)
def test_a_snapshot_that_cannot_tell_is_no_clean_bill(tmp_path, described, expected):
    lines, status = report([LOCKED], snapshot(tmp_path, **described), (), TODAY)

    assert status == 3 and expected in "\n".join(lines)


@pytest.mark.parametrize("content", ["[", "[]", "{}", '{"modified": "2026-11-20", "affected": 1}', "[" * 100_000])
def test_a_record_that_cannot_be_read_is_unknown(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    lines, status = report([LOCKED], snapshot(tmp_path, taken="2026-11-27", ecosystems=[PYPI]), (), TODAY)

    assert status == 3 and "unknown: x.json is no OSV record" in lines


def test_a_version_that_cannot_be_compared_is_unknown(tmp_path):
    given = record(events=[{"introduced": "not a version"}])
    lines, status = report([LOCKED], snapshot(tmp_path, given, taken="2026-11-27", ecosystems=[PYPI]), (), TODAY)

    assert status == 3 and "jinja2 3.1.2: GHSA-1 cannot be compared" in lines[0]


@pytest.mark.parametrize(("until", "status"), [(date(2026, 11, 27), 0), (date(2026, 11, 26), 1)])
@pytest.mark.parametrize("id", ["GHSA-1", "CVE-1"])
def test_an_advisory_is_allowed_until_a_day(tmp_path, until, status, id):
    given = record(versions=["3.1.2"], aliases=["CVE-1"])
    found = snapshot(tmp_path, given, taken="2026-11-27", ecosystems=[PYPI])
    lines, ended = report([LOCKED], found, [Allowed(id, "jinja2", "no template is foreign", until)], TODAY)

    assert ended == status and ("allowed, no template is foreign" in lines[0]) == (status == 0)


def test_a_download_of_osv_is_read_as_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(record(versions=["3.1.2"])))
    found = read(tmp_path / "all.zip")

    assert (found.taken, found.ecosystems) == (date(2026, 11, 20), {PYPI})
    assert report([LOCKED], found, (), TODAY)[1] == 1


@pytest.mark.parametrize("text", ["- {id: a}", "- {id: a, package: b, reason: '', until: 2027-01-01}", "x", "- ["])
def test_an_exception_without_reason_or_date_is_refused(tmp_path, text):
    (tmp_path / "allowed.yaml").write_text(text)
    with pytest.raises(BadInput, match="each entry has id, package, reason and until"):
        allowed(tmp_path / "allowed.yaml")


def test_a_path_that_is_no_snapshot_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "none.zip")]) == 2
    assert "Name a directory or zip file of OSV records" in capsys.readouterr().out


def test_the_recorded_snapshot_says_what_it_cannot_tell(capsys):
    assert main([]) in (1, 3)
    first, *rest = capsys.readouterr().out.splitlines()
    assert "There are none of PyPI" in first and any("no advisories of PyPI" in line for line in rest)


BUILT = (
    "rackwright/toolchain/modules/language/go.mod",
    "rackwright/toolchain/modules/cli/go.mod",
    "benchmarks/load/go.mod",
)
"""Locks of programs that run beside the passphrase of a stack, and of the load generator."""


@pytest.mark.parametrize("lock", BUILT)
def test_a_program_beside_the_passphrase_has_no_known_hole(lock):
    found, unknown = advisories.findings(locks(advisories.ROOT, [lock]), read(advisories.RECORDED))

    assert not found and not unknown


def test_the_recorded_snapshot_knows_the_holes_of_old_modules():
    old = [
        Locked(GO, "github.com/go-git/go-git/v5", "5.6.0", "go.mod"),
        Locked(GO, "golang.org/x/crypto", "0.3.1-0.20221117191849-2c476679df9a", "go.mod"),
        Locked(GO, "golang.org/x/net", "0.10.0", "go.mod"),
        Locked(GO, "google.golang.org/grpc", "1.57.0", "go.mod"),
        Locked(GO, "google.golang.org/protobuf", "1.31.0", "go.mod"),
        Locked(GO, "github.com/cloudflare/circl", "1.3.3", "go.mod"),
    ]
    found, _ = advisories.findings(old, read(advisories.RECORDED))

    assert {each.locked.name for each in found} == {each.name for each in old}
    names = {name for each in found for name in each.aliases}
    assert {"CVE-2023-49569", "CVE-2025-21613", "CVE-2023-48795", "CVE-2023-39325", "CVE-2024-24786"} <= names


def test_without_go_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="go mod download"):
        advisories.record(tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
