"""The role container_runtime: what it puts on a host, and what it does not take."""

import base64
import hashlib
import json
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from rackwright.core.contract import Difference
from rackwright.facts.facts import Facts
from rackwright.kinds.role import plan as planning
from rackwright.kinds.role.entries.software import ImageEntry
from rackwright.kinds.role.observe import observe_property
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.roles.apt import only_with_apt, priorities
from tests.support import recorded_facts
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["container_runtime"]
NVIDIA = ("nvidia_driver",)
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
BASE = f"registry.example/cuda@{DIGEST}"
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBF\n-----END PGP PUBLIC KEY BLOCK-----"
TOOLKIT = {"nvidia_toolkit": "1.17.8-1", "repository": "https://mirror.example/toolkit", "repository_key": KEY}
DIGITS = {"name": "digits", "base": BASE, "requirements": f"orjson==3.11.5 --hash={DIGEST}\n", "app": "print(8080)\n"}


def spec(drivers: tuple[str, ...] = NVIDIA, **variables: Any) -> RoleSpec:
    return RoleSpec(
        host="alpha",
        role="container_runtime",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual", drivers=drivers),
        fleet=AboutFleet(name="lab"),
        variables=variables,
    )


def role_promises(drivers: tuple[str, ...] = NVIDIA, **variables: Any) -> Promises:
    return promises(spec(drivers, **variables), REPOSITORY)


def wants(drivers: tuple[str, ...] = NVIDIA, **variables: Any) -> dict[str, dict[str, Any]]:
    """Return what is wanted of each thing."""
    found: dict[str, dict[str, Any]] = {}
    for entry in role_promises(drivers, **variables).entries:
        found.setdefault(entry.thing, {}).update(entry.want(REPOSITORY))
    return found


def files(drivers: tuple[str, ...] = NVIDIA, **variables: Any) -> dict[str, str]:
    return {file.file: str(file.content) for file in role_promises(drivers, **variables).files}


# --- engines


@only_with_apt
def test_a_version_that_is_declared_is_held_and_pinned_and_another_gets_its_updates(tmp_path):
    pins = "/etc/apt/preferences.d/60-rackwright-container-runtime"
    held, free = wants(version="4.3.1"), wants()

    assert held["package:podman"] == {"version": "4.3.1+ds1-8+deb12u1+b3", "held": True}
    assert "podman -> 4.3.1" in priorities(files(version="4.3.1")[pins], tmp_path).replace("with priority", "")
    assert free["package:podman"] == {"installed": True}
    assert free[f"file:{pins}"] == {"present": False}
    assert priorities(files(**TOOLKIT)[pins], tmp_path).startswith("\n")


MIRRORS = {"name": "docker.io", "mirrors": ["first.example/hub", "http://second.example:5000"]}
AFTERWARDS = {"name": "quay.io", "mirrors": ["first.example"], "upstream": True}


def test_podman_asks_mirrors_in_their_order_and_the_registry_itself_only_where_it_may():
    text = files(registries=[MIRRORS, AFTERWARDS])["/etc/containers/registries.conf.d/60-rackwright.conf"]

    assert tomllib.loads(text) == {
        "unqualified-search-registries": [],
        "registry": [
            {
                "prefix": "docker.io",
                "location": "second.example:5000",
                "insecure": True,
                "mirror": [{"location": "first.example/hub"}],
            },
            {"prefix": "quay.io", "location": "quay.io", "mirror": [{"location": "first.example"}]},
        ],
    }


def test_containerd_asks_the_same():
    """
    A place below a registry's own is asked with the version of the protocol in front, and the server is asked last.
    """
    written = files((), engine="containerd", registries=[MIRRORS, AFTERWARDS])
    hub, quay = (
        tomllib.loads(written[f"/etc/containerd/certs.d/{name}/hosts.toml"]) for name in ("docker.io", "quay.io")
    )

    pull = {"capabilities": ["pull", "resolve"]}
    assert hub == {
        "server": "http://second.example:5000",
        "host": {
            "https://first.example/v2/hub": {"override_path": True, **pull},
            "http://second.example:5000": pull,
        },
    }
    assert quay == {"server": "https://quay.io", "host": {"https://first.example": pull}}
    upstream = files((), engine="containerd", registries=[{**MIRRORS, "upstream": True}])
    hub = tomllib.loads(upstream["/etc/containerd/certs.d/docker.io/hosts.toml"])
    assert hub["server"] == "https://registry-1.docker.io"


SIGNED_IN = {
    "name": "10.0.0.9:5000",
    "mirrors": ["10.0.0.9:5001"],
    "authority": "-----BEGIN CERTIFICATE-----\n…",
    "account": {"name": "nodes", "password": {"secret": "registry_nodes"}},
}
"""A registry with an account."""


@pytest.mark.parametrize("engine", ["containerd", "podman"])
def test_the_password_of_a_registry_is_in_one_file_that_only_root_reads(engine):
    """
    `tests/roles/test_registry.py` pulls with containerd's.
    """
    password = "password-of-the-nodes"
    repository = replace(REPOSITORY, secrets={"registry_nodes": password})
    made = promises(spec((), engine=engine, registries=[SIGNED_IN, MIRRORS]), repository)
    header = base64.b64encode(f"nodes:{password}".encode()).decode()

    [file] = [file for file in made.files if header in str(file.content)]
    assert file.mode == "0600" and made.secret_files == {file.file}
    if engine == "podman":
        assert json.loads(str(file.content)) == {"auths": {"10.0.0.9:5001": {"auth": header}}}
        assert made.variables["__container_runtime_credentials"] == f"--authfile={file.file}"
    else:
        parsed = tomllib.loads(str(file.content))
        assert parsed["server"] == "https://10.0.0.9:5001" and parsed["header"] == {"Authorization": f"Basic {header}"}
        assert parsed["host"]["https://10.0.0.9:5001"]["header"] == parsed["header"]
    trusted = {"containerd": "containerd/certs.d/10.0.0.9:5000", "podman": "containers/certs.d/10.0.0.9:5001"}
    assert {each.file: each.content for each in made.files}[f"/etc/{trusted[engine]}/authority.crt"] == SIGNED_IN[
        "authority"
    ]


def test_the_registry_itself_gets_no_account_of_its_mirror():
    text = files((), engine="containerd", registries=[{**SIGNED_IN, "upstream": True}])
    parsed = tomllib.loads(text["/etc/containerd/certs.d/10.0.0.9:5000/hosts.toml"])

    assert parsed["server"] == "https://10.0.0.9:5000" and "header" not in parsed
    assert parsed["host"]["https://10.0.0.9:5001"]["header"]


@pytest.mark.parametrize("manager", ["systemd", "cgroupfs"])
def test_both_engines_let_the_same_bound_what_containers_use(manager):
    podman = files(cgroup_manager=manager)["/etc/containers/containers.conf.d/60-rackwright.conf"]
    containerd = files((), engine="containerd", cgroup_manager=manager)["/etc/containerd/config.toml"]
    cri = tomllib.loads(containerd)["plugins"]["io.containerd.grpc.v1.cri"]

    assert tomllib.loads(podman)["engine"]["cgroup_manager"] == manager
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is (manager == "systemd")
    assert cri["registry"]["config_path"] == "/etc/containerd/certs.d"


def test_the_api_is_off_and_images_are_not_updated_automatically():
    want = wants()

    assert want["unit:podman.socket"] == {"state": "disabled", "active": "inactive"}
    for unit in ("podman.service", "podman-auto-update.timer", "podman-auto-update.service"):
        assert want[f"unit:{unit}"] == wants(api=True)[f"unit:{unit}"] == {"state": "disabled"}
    assert wants(api=True)["unit:podman.socket"] == {"state": "enabled", "active": "active"}


def test_docker_is_a_persons_to_remove():
    [docker] = [entry for entry in role_promises().entries if entry.thing == "package:docker.io"]

    assert docker.by_hand and docker.want(REPOSITORY) == {"installed": False}
    assert "lose them when systemd reads its units again" in docker.remedy


# --- what is refused


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"version": "5.0"}, "version: got podman 5.0; known versions: 4.3.1."),
        ({"engine": "containerd"}, "engine: got containerd 1.6.20 on a host with nvidia; containers get accel"),
        ({"devices": ["ascend"]}, "devices: got ascend; containers may be given accelerators of nvidia, amd, gaudi."),
        (
            {"images": [f"docker.io/nvidia/cuda:12.8.0@{DIGEST}", BASE, "docker.io/x:1"]},
            "images: got docker.io/x:1; an",
        ),
        ({"images": [f"cuda@{DIGEST}"]}, f"images: got cuda@{DIGEST}; an image is declared with its registry and by"),
        ({"images": [f"docker.io/x@{DIGEST[:-1]}"]}, "`skopeo inspect --format {{.Digest}} docker://…` prints"),
        ({"definitions": [{**DIGITS, "base": "docker.io/x:1"}]}, "definitions: got the base docker.io/x:1 of digits;"),
        ({"definitions": [{**DIGITS, "name": "Digits"}]}, "definitions: got the name Digits; an image name has"),
        ({"definitions": [DIGITS, DIGITS]}, "definitions: got digits, digits; each image has a name of its own."),
        (
            {"definitions": [{**DIGITS, "requirements": "orjson"}]},
            "definitions: got requirements of digits without hash",
        ),
        ({"engine": "containerd", "devices": [], "build": True}, "build: got true with containerd; podman builds"),
        ({"engine": "containerd", "devices": [], "api": True}, "api: got true with containerd; the socket is podman's"),
        (
            {"registries": [{"name": "a/b", "mirrors": ["x"]}]},
            "registries: got the registry a/b; a registry is named as",
        ),
        (
            {**TOOLKIT, "nvidia_toolkit": "1.18.1-1"},
            "nvidia_toolkit: got 1.18.1-1; known versions are 1.12",
        ),
        (
            {"registries": [{**SIGNED_IN, "mirrors": ["a", "b"]}]},
            "registries: got a, b as mirrors of 10.0.0.9:5000, with an account or an authority; an account and",
        ),
        (
            {"registries": [{**SIGNED_IN, "mirrors": ["http://10.0.0.9:5001"]}]},
            "registries: got http://10.0.0.9:5001 as mirrors",
        ),
        (
            {"registries": [{**SIGNED_IN, "account": {"name": "nodes", "password": "in clear text"}}]},
            "registries: got the password of nodes in plain text; a password is one of the stack's secrets",
        ),
        ({"registries": [{"name": "quay.io", "mirrors": []}]}, "registries: got no mirror of quay.io; a registry in"),
    ],
)
def test_what_cannot_be_is_refused(variables, expected):
    assert list(SOURCE.problems("debian-12", variables)) == []
    [problem] = refusals(SOURCE, "debian-12", variables, NVIDIA)

    assert expected in f"{problem.path[0]}: {problem}"


def test_containerd_without_accelerators_is_no_contradiction():
    assert list(refusals(SOURCE, "debian-12", {"engine": "containerd"})) == []


def test_the_toolkit_comes_from_its_declared_repository():
    assert [*SOURCE.problems("debian-12", {"nvidia_toolkit": "1.17.8-1"})] == []
    sources = files(**TOOLKIT)["/etc/apt/sources.list.d/rackwright-nvidia-toolkit.sources"].splitlines()
    assert "URIs: https://mirror.example/toolkit/deb/amd64/" in sources
    assert wants(**TOOLKIT)["package:nvidia-container-toolkit-base"] == {"version": "1.17.8-1", "held": True}


# --- whose accelerators


@pytest.mark.parametrize(
    ("drivers", "variables", "kinds"),
    [
        (NVIDIA, {}, {"nvidia.com/gpu"}),
        (("rocm",), {}, {"amd.com/gpu"}),
        (("gaudi",), {}, {"intel.com/gaudi"}),
        (("jetson",), {}, set()),
        ((), {"devices": ["nvidia", "amd"]}, {"nvidia.com/gpu", "amd.com/gpu"}),
        (NVIDIA, {"devices": []}, set()),
    ],
)
def test_containers_may_be_given_what_the_profile_has_or_what_is_declared(drivers, variables, kinds):
    want = wants(drivers, **variables)
    gone = {thing for thing in want if thing.startswith("file:/etc/cdi/")}

    assert {thing.partition(":")[2] for thing in want if thing.startswith("cdi:")} == kinds
    assert len(gone) == 3 - len(kinds) and all(want[thing] == {"present": False} for thing in gone)


def difference(thing: str, name: str) -> Difference:
    return Difference(thing, name, "new", "old")


@pytest.mark.parametrize(
    ("thing", "name", "waits"),
    [
        ("package:podman", "installed", True),
        ("unit:podman.socket", "state", True),
        ("file:/etc/systemd/system/rackwright-cdi.path", "content", True),
        ("cdi:nvidia.com/gpu", "by", False),
        ("file:/etc/containers/registries.conf.d/60-rackwright.conf", "content", False),
    ],
)
def test_a_reload_of_systemd_waits_for_running_jobs(thing, name, waits):
    facts = Facts({**json.loads(json.dumps(recorded_facts.gpus())), "owners": {}})
    made = planning.plan(spec(), role_promises(), [difference(thing, name)], facts, REPOSITORY)

    assert bool(made.refusals) == waits
    assert bool(made.steps) != waits


# --- images


def test_a_definition_is_three_files_and_its_image_is_called_by_what_is_in_them():
    written = files(definitions=[DIGITS])
    names = ("Containerfile", "requirements.txt", "app.py")
    texts = [written[f"/opt/rackwright/images/digits/{name}"] for name in names]
    lines = texts[0].splitlines()

    assert texts[1:] == [DIGITS["requirements"], DIGITS["app"]]
    assert lines[1] == f"FROM {BASE}"
    assert {"USER 10001:10001", "EXPOSE 8080", 'CMD ["/app/venv/bin/python", "app.py"]'} <= set(lines)
    assert "--require-hashes --only-binary :all:" in texts[0] and "HEALTHCHECK " in texts[0]
    tag = hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
    assert wants(definitions=[DIGITS], build=True)[f"image:localhost/digits:{tag}"] == {"podman": True}
    assert wants(definitions=[DIGITS], build=True)[f"image:{BASE}"] == {"podman": True}
    assert not [thing for thing in wants(definitions=[DIGITS]) if thing.startswith("image:")]


def test_a_base_that_has_all_needs_no_network():
    [text] = [
        text
        for path, text in files(definitions=[{**DIGITS, "requirements": "", "packages": []}]).items()
        if path.endswith("Containerfile")
    ]

    assert "RUN" not in text
    assert 'CMD ["python3", "app.py"]' in text


def test_an_image_that_is_not_there_is_a_persons_to_bring_unless_it_may_be_fetched():
    for pull in (False, True):
        [image] = [entry for entry in role_promises(images=[BASE], pull=pull).entries if isinstance(entry, ImageEntry)]
        assert image.by_hand is not pull


def test_an_image_is_there_in_the_engine_that_runs_it():
    facts = Facts({"images": {"podman": [{"names": [], "digests": [DIGEST]}], "containerd": []}})
    seen = [
        observe_property(facts, "image", BASE, engine, ImageEntry(image=BASE, engine=engine).claim(REPOSITORY))
        for engine in ENGINES
    ]

    assert seen == [True, False]


ENGINES = ("podman", "containerd")
