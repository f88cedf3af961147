"""A stack and its lock: written by this rackwright, with all that roles promise, or refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from rackwright import __version__
from rackwright.errors import DeclarationError
from rackwright.fleet.lockfile import Lock, changes, load_lock, lock_path, repository_digests
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack import Stack, declare, load_stack
from tests.support.sources import ROOT
from tests.support.stack_settings import configure

FLEET = """\
fleet: example
hosts:
  alpha:
    address: 192.0.2.11
    identity: {serial: CHASSIS-A}
    os: debian-12
    roles:
      base: {packages: [htop]}
      cuda: {versions: ["11.8"], parts: runtime}
      nvidia_driver: {version: 535.261.03, flavour: proprietary}
"""
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "example.yaml").write_text(FLEET)
    configure(tmp_path, "rack", "example.yaml", "rack")
    configure(tmp_path, "lab", "example.yaml", "twin:lab")
    return tmp_path


def lock_of(stack: Stack, **otherwise: object) -> Lock:
    """Return a lock that has all that *stack* promises."""
    packages = {}
    for declared in declare(stack):
        for claim in declared.kind.claims(declared.spec, stack.repository):
            if claim.thing.startswith("package:") and claim.want.get("installed", True):
                packages[f"{claim.thing[8:]}={claim.want.get('version', '1')}"] = "0" * 64
    repository, roles = repository_digests(ROOT, ["base", "cuda", "nvidia_driver"])
    made = {"fleet": "example", "rackwright": __version__, "repository": repository, "roles": roles, "key": KEY}
    return Lock.model_validate({**made, "packages": {"debian-12/amd64": packages}, **otherwise})


def refusal(stack: Stack) -> str:
    with pytest.raises(DeclarationError) as caught:
        declare(stack)
    return str(caught.value)


def test_a_lock_is_read_as_it_was_written(project):
    stack = load_stack("rack", project)
    assert stack.lock is None
    lock = lock_of(stack, images={"registry.example/model": "1" * 64})
    lock_path(project / "stacks/example.yaml").write_text(lock.text)

    stack = load_stack("rack", project)
    assert stack.lock == lock
    assert stack.lock_file == Path("stacks/example.lock.yaml")
    assert stack.lock.text == lock.text
    assert declare(stack)


def test_a_lock_is_sorted_whatever_it_was_made_from():
    one = {"fleet": "f", "rackwright": "1", "repository": "0", "roles": {"b": "1", "a": "2"}}
    other = {**one, "roles": {"a": "2", "b": "1"}}
    packages = {"z=1": "0", "a=1": "1"}

    first = Lock.model_validate({**one, "packages": {"debian-12/amd64": packages}})
    second = Lock.model_validate({**other, "packages": {"debian-12/amd64": dict(reversed(packages.items()))}})

    assert first.text == second.text
    assert first.digest == second.digest


def test_a_run_by_another_version_is_refused_with_both_and_a_way_out(project):
    stack = load_stack("rack", project)
    stack = replace(stack, lock=lock_of(stack, rackwright="0.0.9"))

    assert refusal(stack) == (
        f"stacks/example.lock.yaml: the lock was written by rackwright 0.0.9; rackwright {__version__}, which this is. "
        "Install rackwright 0.0.9, or run `rackwright lock rack`, check the changes, and commit the lock."
    )


@pytest.mark.parametrize(
    ("otherwise", "named"),
    [
        ({"roles": {"base": "0", "cuda": "0"}}, "this build has different roles (base, cuda)"),
        ({"repository": "0"}, "this build has different roles, templates or a catalogue"),
    ],
)
def test_a_run_with_other_roles_than_the_locks_is_refused(project, otherwise, named):
    stack = load_stack("rack", project)

    assert named in refusal(replace(stack, lock=lock_of(stack, **otherwise)))


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("nvidia-smi=535.261.03-1", "the lock lacks nvidia-smi=535.261.03-1; alpha/nvidia_driver promises it"),
        ("htop=1", "the lock lacks htop; alpha/base promises it"),
    ],
)
def test_what_a_role_promises_and_the_lock_has_not_is_refused(project, lost, named):
    stack = load_stack("rack", project)
    lock = lock_of(stack)
    packages = {name: digest for name, digest in lock.packages["debian-12/amd64"].items() if name != lost}

    assert named in refusal(replace(stack, lock=lock.model_copy(update={"packages": {"debian-12/amd64": packages}})))


def test_a_lock_has_one_error_with_all_packages_that_it_lacks(project):
    hosts = "".join(
        f"""\
  host-{number}:
    address: 192.0.2.{number}
    identity: {{serial: CHASSIS-{number}}}
    os: debian-12
    roles: {{base: {{packages: [tool-{number}, other-{number}]}}}}
"""
        for number in range(1, 9)
    )
    stack = load_stack("rack", project)
    lock = lock_of(stack, rackwright="0.0.9")
    (project / "stacks/example.yaml").write_text(FLEET + hosts)
    changed = lock.model_copy(update={"vendors": {"gone": "v1"}})

    with pytest.raises(DeclarationError) as caught:
        declare(replace(load_stack("rack", project), lock=changed))

    [error] = caught.value.diagnostics
    assert error.problem == "the lock was written by rackwright 0.0.9"
    assert error.note == (
        "the lock lacks 16 packages: tool-1, other-1, tool-2, other-2, tool-3 and 11 more, and roles of host-1, "
        "host-2, host-3, host-4, host-5 and 3 more promise them; "
        "the lock has packages of vendors for gone, and no role of this host declares a repository"
    )
    assert error.help.endswith("or run `rackwright lock rack`, check the changes, and commit the lock")


def test_packages_of_vendors_for_a_host_that_declares_none_are_refused(project):
    stack = load_stack("rack", project)
    lock = lock_of(stack)
    packages = {**lock.packages, "debian-12/amd64/v1": lock.packages["debian-12/amd64"]}
    changed = lock.model_copy(update={"vendors": {"alpha": "v1", "gone": "v1"}, "packages": packages})

    assert "the lock has packages of vendors for alpha, gone; no role of these hosts declares a repository" in refusal(
        replace(stack, lock=changed)
    )


def test_a_mirror_without_a_lock_or_its_key_is_refused(project):
    (project / "stacks/example.yaml").write_text(f"{FLEET}mirror: {{}}\n")
    stack = load_stack("rack", project)

    assert "there is no lock; `mirror` serves packages that a lock lists" in refusal(stack)
    locked = lock_of(replace(stack, fleet=stack.fleet.model_copy(update={"mirror": None})), key=None)
    assert "the lock has no key" in refusal(replace(stack, lock=locked))


@pytest.mark.parametrize(
    ("name", "mirror", "url", "port"),
    [
        ("rack", "{}", "http://127.0.0.1:9417/", 9417),
        ("rack", "{url: https://mirror.example/rack}", "https://mirror.example/rack", None),
        ("lab", "{url: https://mirror.example/rack}", "http://127.0.0.1:9417/", 9417),
    ],
)
def test_hosts_are_led_to_the_mirror_that_they_reach(project, name, mirror, url, port):
    stack = load_stack(name, project)
    lock_path(project / "stacks/example.yaml").write_text(lock_of(stack).text)
    (project / "stacks/example.yaml").write_text(f"{FLEET}mirror: {mirror}\n")
    stack = load_stack(name, project)
    [base] = [one.spec for one in declare(stack) if isinstance(one.spec, RoleSpec) and one.spec.role == "base"]

    assert base.fleet.mirror is not None
    assert (base.fleet.mirror.url, base.fleet.mirror.port, base.fleet.mirror.key) == (url, port, KEY)
    assert stack.brings_packages == (port is not None)


def test_a_spoilt_lock_is_reported_with_its_line(project):
    path = project / "stacks/example.lock.yaml"
    path.write_text("fleet: example\nrackwright: 1\nrepository: x\nroles: {}\nwhat: 1\n")

    with pytest.raises(DeclarationError) as caught:
        load_lock(path)
    assert [line.rpartition("example.lock.yaml:")[2].split(";")[0] for line in str(caught.value).splitlines()] == [
        "2: rackwright: got 1",
        "5: what: got an unknown key",
    ]


@pytest.mark.parametrize("url", ["mirror.example", "file:///srv/mirror", "http://", "http://a b/"])
def test_an_address_that_no_host_can_use_is_refused(project, url):
    (project / "stacks/example.yaml").write_text(f"{FLEET}mirror: {{url: '{url}'}}\n")

    with pytest.raises(DeclarationError, match="a mirror's URL begins with http:// or https:// and has no blanks"):
        load_stack("rack", project)


def test_changes_name_what_is_new_gone_or_other():
    before = Lock(
        fleet="f", rackwright="1", repository="0", roles={}, packages={"debian-12/amd64": {"a=1": "0", "b=1": "0"}}
    )
    after = before.model_copy(update={"rackwright": "2", "packages": {"debian-12/amd64": {"a=1": "1", "b=2": "0"}}})

    assert list(changes(before, after)) == [
        "~ packages debian-12/amd64 a=1",
        "- packages debian-12/amd64 b=1",
        "+ packages debian-12/amd64 b=2",
        "~ rackwright",
    ]
    assert not list(changes(before, before))


def test_a_digest_of_the_house_follows_its_files(tmp_path):
    for path in ("roles/base/tasks/main.yml", "roles/cuda/tasks/main.yml", "roles/base/templates/etc/x.j2"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(path)
    before = repository_digests(tmp_path, ["base", "cuda"])
    (tmp_path / "roles/base/templates/etc/x.j2").write_text("otherwise")
    after = repository_digests(tmp_path, ["base", "cuda"])

    assert after[0] != before[0]
    assert (after[1]["base"] != before[1]["base"], after[1]["cuda"] != before[1]["cuda"]) == (True, False)
