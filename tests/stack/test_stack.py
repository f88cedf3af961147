"""A stack: its settings, how its hosts are reached, and what it declares."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.schema.maintenance import Maintenance
from rackwright.schema.ssh import Endpoint, Login
from rackwright.stack import Stack, declare, load_stack
from rackwright.stack.resources import declare_unchecked
from rackwright.stack.salt import salt
from rackwright.stack.settings import settings
from tests.support.server_stack import publish
from tests.support.stack_settings import configure

STACKS = Path(__file__).parents[2] / "stacks"
FLEET = """\
fleet: example
ssh:
  logins:
    - {name: certificate, user: admin, key: keys/admin, certificate: keys/admin-cert.pub}
    - {name: bootstrap, user: root, key: ~/.ssh/bootstrap, become: false}
    - {name: agent, user: admin, agent: true}
hosts:
  alpha:
    address: 192.0.2.11
    identity: {serial: CHASSIS-A}
    os: debian-12
    drives:
      - {serial: BOOT, boot: true, size: 480GB}
      - {serial: DISK-0, bus: nvme, size: 1.92TB, tier: fast}
      - {serial: DISK-1, bus: nvme, size: 1.92TB, tier: fast}
    tiers:
      fast: {level: raid1, filesystem: xfs, mount: /srv/fast, sync_speed_max: 50MiB}
    wipe: {DISK-0: ext4 1234}
  beta:
    address: beta.example
    identity: {uuid: 4C4C4544-0042-3510-8054-B2C04F565431}
    os: debian-12
    ssh: {port: 2222, jump: "ops@[2001:db8::1]:2200", logins: [{name: key, user: admin, key: /etc/keys/beta}]}
"""
PROVIDED = "{provided: true, mount: /srv/fast}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one fleet, for the stacks ``rack`` and ``lab``."""
    monkeypatch.delenv("RACKWRIGHT_SALT_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "example.yaml").write_text(FLEET)
    configure(tmp_path, "rack", "example.yaml", "rack")
    configure(tmp_path, "lab", "example.yaml", "twin:lab")
    return tmp_path


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(DeclarationError) as caught:
        action()
    return str(caught.value)


def test_logins_are_tried_in_their_order_with_paths_from_the_fleets_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    stacks = project / "stacks"
    assert load_stack("rack", project).endpoints["alpha"] == Endpoint(
        "alpha",
        "192.0.2.11",
        22,
        (
            Login(
                name="certificate",
                user="admin",
                key=str(stacks / "keys/admin"),
                certificate=str(stacks / "keys/admin-cert.pub"),
            ),
            Login(name="bootstrap", user="root", key="/home/somebody/.ssh/bootstrap", become=False),
            Login(name="agent", user="admin", agent=True),
        ),
        stacks / "example.known_hosts",
    )


def test_a_relative_project_gives_absolute_paths(project: Path) -> None:
    endpoint = load_stack("rack", Path()).endpoints["alpha"]
    assert endpoint.known_hosts == project / "stacks" / "example.known_hosts"
    assert endpoint.logins[0].key == str(project / "stacks" / "keys" / "admin")


def test_a_jump_host_has_its_own_user_and_port_and_the_same_logins(project: Path) -> None:
    endpoint = load_stack("rack", project).endpoints["beta"]
    pins = project / "stacks" / "example.known_hosts"
    login = Login(name="key", user="admin", key="/etc/keys/beta")
    through = Login(name="key", user="ops", key="/etc/keys/beta", become=False)
    jump = Endpoint("beta (jump)", "2001:db8::1", 2200, (through,), pins)
    assert endpoint == Endpoint("beta", "beta.example", 2222, (login,), pins, jump)


def test_a_jump_host_without_a_user_takes_the_logins(project: Path) -> None:
    fleet = project / "stacks" / "example.yaml"
    fleet.write_text(FLEET.replace('"ops@[2001:db8::1]:2200"', "bastion.example"))
    jump = load_stack("rack", project).endpoints["beta"].jump
    assert jump is not None
    assert (jump.address, jump.port, jump.logins[0].user) == ("bastion.example", 22, "admin")


def test_on_a_twin_hosts_answer_where_the_twin_says(project: Path) -> None:
    assert load_stack("lab", project).endpoints == {}
    twin = project / ".rackwright" / "twins" / "lab"
    twin.mkdir(parents=True)
    entry = {"address": "127.0.0.1", "port": 4022, "user": "admin", "key": "/keys/id"}
    (twin / "endpoints.json").write_text(json.dumps({"hosts": {"alpha": entry}}))
    login = Login(name="twin", user="admin", key="/keys/id")
    expected = Endpoint("alpha", "127.0.0.1", 4022, (login,), twin / "known_hosts")
    assert load_stack("lab", project).endpoints == {"alpha": expected}


def test_a_twin_is_the_fleet_with_smaller_drives(project: Path) -> None:
    rack, lab = load_stack("rack", project), load_stack("lab", project)
    assert (rack.twin, rack.not_rehearsable("alpha"), rack.notices) == (None, (), ())
    assert (lab.twin, lab.not_rehearsable("alpha")) == ("lab", ("hardware",))
    assert lab.notices == ("on the twin every data drive has 512MB, instead of its declared size",)
    assert [drive.size for drive in lab.fleet.hosts["alpha"].drives] == [None, 512_000_000, 512_000_000]
    names = [[resource.name for resource in declare(stack)] for stack in (rack, lab)]
    assert names[0] == names[1] == ["alpha", "alpha/fast", "beta"]


def test_a_container_shows_less_than_a_virtual_machine_and_the_notices_say_so(project: Path) -> None:
    configure(project, "lab", "example.yaml", "twin:lab", containers=["beta"])
    lab = load_stack("lab", project)
    assert lab.containers == {"beta"}
    assert [lab.not_rehearsable(host) for host in ("alpha", "beta")] == [("hardware",), ("hardware", "kernel")]
    assert [resource.spec.not_rehearsable for resource in declare(lab)] == [
        ("hardware",),
        ("hardware",),
        ("hardware", "kernel"),
    ]
    assert lab.notices[1] == "beta: a container on the twin, with this computer's kernel and without drives"


def test_a_twin_is_lent_mirrors_where_its_settings_say_so_and_a_rack_never(project: Path) -> None:
    def lends(stack: str, line: str) -> bool:
        configure(project, "lab", "example.yaml", "twin:lab")
        configure(project, "rack", "example.yaml", "rack")
        with (project / "stacks" / f"Pulumi.{stack}.yaml").open("a") as file:
            file.write(line)
        return load_stack(stack, project).lends_mirrors

    assert not lends("lab", "")
    assert lends("lab", "  rackwright:mirrors: lent\n")
    assert "got True; `lent` gives hosts of a twin" in refusal(lambda: lends("lab", "  rackwright:mirrors: true\n"))
    assert "got 'lent'; a rack has its own mirrors" in refusal(lambda: lends("rack", "  rackwright:mirrors: lent\n"))


@pytest.mark.parametrize(
    ("containers", "target", "message"),
    [
        (
            ["bata"],
            "twin:lab",
            "config.rackwright:containers[0]: got 'bata'; hosts of the fleet: alpha, beta. Write beta.",
        ),
        (
            ["bata", "beta"],
            "twin:lab",
            "config.rackwright:containers[0]: got 'bata'; hosts of the fleet: alpha, beta. Remove bata.",
        ),
        (
            "beta",
            "twin:lab",
            "config.rackwright:containers: got 'beta'; it is a list of hosts. Write it like [NAME, …].",
        ),
        (
            ["beta"],
            "rack",
            "config.rackwright:containers: got ['beta']; only a twin has containers, and the target is rack."
            " Remove it, or set target to twin:lab.",
        ),
    ],
)
def test_hosts_that_cannot_be_containers_are_reported_with_their_line(
    containers: object, target: str, message: str, project: Path
) -> None:
    configure(project, "lab", "example.yaml", target, containers=containers)
    assert refusal(lambda: load_stack("lab", project)) == f"stacks/Pulumi.lab.yaml:4: {message}"


def test_resources_say_what_the_fleet_says(project: Path) -> None:
    host, tier, other = declare(load_stack("rack", project))
    assert host.inputs == {
        "host": "alpha",
        "not_rehearsable": [],
        "identity": {"serial": "CHASSIS-A"},
        "os": "debian-12",
        "profile": "virtual",
        "drives": [
            {"serial": "BOOT", "size": "480GB", "boot": True},
            {"serial": "DISK-0", "bus": "nvme", "size": "1.92TB", "tier": "fast"},
            {"serial": "DISK-1", "bus": "nvme", "size": "1.92TB", "tier": "fast"},
        ],
        "health": {},
        "macs": [],
        "pci_addresses": [],
    }
    assert tier.after == ("alpha",)
    assert tier.inputs["declared"]["sync_speed_max"] == "50MiB"
    assert (tier.spec.declared.chunk_kib, tier.spec.declared.sync_speed_max_kib) == (0, 51_200)
    assert tier.inputs["wipe"] == {"DISK-0": "ext4 1234"}
    assert [member["serial"] for member in tier.inputs["members"]] == ["DISK-0", "DISK-1"]
    assert other.inputs["identity"] == {"uuid": "4c4c4544-0042-3510-8054-b2c04f565431"}


def test_a_role_comes_after_the_tier_and_the_addresses_that_it_uses(project: Path) -> None:
    """
    A tier that others provide is no resource, so nothing can come after it.
    """
    roles = "{base: {}, mlflow: {artifacts: {tier: fast}, admin: {name: admin, password: {secret: admin}}}}"
    nic = '{name: fabric0, mac: "52:54:00:00:00:01", addresses: [10.0.0.1/24]}'
    text = FLEET.replace("    wipe:", f"    network: {{}}\n    nics: [{nic}]\n    roles: {roles}\n    wipe:")
    (project / "stacks" / "example.yaml").write_text(text)
    after = {each.name: each.after for each in declare(load_stack("lab", project))}
    assert after["alpha/mlflow"] == ("alpha", "alpha/base", "alpha/fast", "alpha/network")
    assert after["alpha/base"] == ("alpha",)

    provided = text.replace("{level: raid1, filesystem: xfs, mount: /srv/fast, sync_speed_max: 50MiB}", PROVIDED)
    (project / "stacks" / "example.yaml").write_text(
        "\n".join(line for line in provided.splitlines() if "DISK-" not in line)
    )
    after = {each.name: each.after for each in declare(load_stack("lab", project))}
    assert after["alpha/mlflow"] == ("alpha", "alpha/base", "alpha/network")


def test_no_address_and_no_login_is_in_the_inputs(project: Path) -> None:
    text = json.dumps([resource.inputs for resource in declare(load_stack("rack", project))])
    assert not any(word in text for word in ("192.0.2", "beta.example", "bootstrap", "2001:db8"))


def test_the_example_is_the_same_in_yaml_and_in_python(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    stacks: dict[tuple[str, str], Stack] = {}
    for fleet in ("rack.yaml", "rack_py.py"):
        shutil.copy(STACKS / fleet, tmp_path / "stacks")
        for target in ("rack", "twin:example"):
            configure(tmp_path, "example", fleet, target)
            stacks[fleet, target] = load_stack("example", tmp_path)
    for target in ("rack", "twin:example"):
        in_yaml, in_python = (stacks[fleet, target] for fleet in ("rack.yaml", "rack_py.py"))
        assert len(declare(in_yaml)) == 6
        assert declare(in_yaml) == declare(in_python)


@pytest.mark.parametrize("path", sorted(STACKS.glob("Pulumi.*.yaml")), ids=lambda path: path.stem)
def test_a_stack_that_we_bring_is_declared_right(path: Path, tmp_path: Path) -> None:
    """
    Servers have a model that is published beforehand. A fleet with a mirror needs a lock, which each computer writes.
    """
    shutil.copytree(STACKS, tmp_path / "stacks")
    publish(tmp_path / ".rackwright/models/digits", b"digits", 0.99)
    stack = load_stack(path.stem.removeprefix("Pulumi."), tmp_path)

    assert declare_unchecked(stack) if stack.fleet.mirror else declare(stack)
    assert stack.containers <= set(stack.fleet.hosts)


def test_an_unknown_stack_names_the_known(project: Path) -> None:
    assert refusal(lambda: load_stack("labb", project)) == (
        "stack labb: got no stacks/Pulumi.labb.yaml; stacks here: lab, rack. Write lab."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "encryptionsalt: v1:abc\n",
            "stacks/Pulumi.wrong.yaml:1: config: got no rackwright:fleet and no rackwright:target; a stack is a fleet"
            " and a target. Run `pulumi config set --stack wrong rackwright:fleet VALUE`.",
        ),
        (
            "config:\n  rackwright:fleet: exampel.yaml\n  rackwright:target: twin\n",
            "stacks/Pulumi.wrong.yaml:2: config.rackwright:fleet: got 'exampel.yaml'; fleets here: example.yaml."
            " Write example.yaml.\n"
            "stacks/Pulumi.wrong.yaml:3: config.rackwright:target: got 'twin'; a target is rack or twin:NAME."
            " Write rack, or twin:wrong.",
        ),
        (
            "config:\n  rackwright:fleet: [example.yaml]\n  rackwright:target: rack\n",
            "stacks/Pulumi.wrong.yaml:1: config: got no rackwright:fleet; a stack is a fleet and a target."
            " Run `pulumi config set --stack wrong rackwright:fleet VALUE`.",
        ),
        (
            "config: {\n",
            "stacks/Pulumi.wrong.yaml:2: got a syntax error (while parsing a flow node that begins in line 2, did not"
            " find expected node content); YAML 1.2. Check this line and the one above.",
        ),
    ],
)
def test_wrong_settings_are_reported_with_their_line(text: str, message: str, project: Path) -> None:
    (project / "stacks" / "Pulumi.wrong.yaml").write_text(text)
    assert refusal(lambda: settings("wrong", project)) == message


def test_the_salt_is_made_once_and_is_for_its_owner_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    salts = {load_stack(stack, project).salt for stack in ("rack", "lab", "rack")}
    assert [len(each) for each in salts] == [32]
    assert stat.S_IMODE((project / ".rackwright" / "salts" / "example").stat().st_mode) == 0o600
    monkeypatch.setenv("RACKWRIGHT_SALT_FILE", str(project / "elsewhere"))
    assert load_stack("rack", project).salt not in salts
    assert load_stack("rack", project).salt == (project / "elsewhere").read_bytes()


def with_host_lines(project: Path, **lines: str) -> Stack:
    """Return the rack with a line more at each of these hosts."""
    text = FLEET
    for host, line in lines.items():
        text = text.replace(f"  {host}:\n", f"  {host}:\n    {line}\n")
    (project / "stacks" / "example.yaml").write_text(text)
    return load_stack("rack", project)


def test_a_retired_host_is_declared_no_more(project: Path) -> None:
    """
    Its resources go from the state, and are let go as they are; what it had may be another host's.
    """
    stack = with_host_lines(project, alpha="retired: true")

    assert [*stack.fleet.hosts] == [*stack.endpoints] == ["beta"]
    assert stack.retired == {"alpha"}
    assert {declared.spec.host for declared in declare(stack)} == {"beta"}
    assert "alpha: retired, and left as it is" in stack.notices


def test_maintenance_stands_until_the_end_of_its_last_day(project: Path) -> None:
    stack = with_host_lines(
        project,
        alpha="maintenance: {until: 2999-12-31, reason: a new mainboard}",
        beta="maintenance: {until: 2020-01-31, reason: long ago}",
    )

    assert stack.maintenance == {"alpha": "in maintenance until 2999-12-31: a new mainboard"}
    assert stack.notices == ("alpha: in maintenance until 2999-12-31: a new mainboard",)
    assert len(stack.fleet.hosts) == 2
    day = Maintenance(until="2027-01-31", reason="x")
    assert day.is_active(datetime(2027, 1, 31, 23, 59, tzinfo=UTC))
    assert not day.is_active(datetime(2027, 2, 1, tzinfo=UTC))


def test_on_a_twin_there_is_no_array_to_take_over(project: Path) -> None:
    """
    It is made there, as any other, and the message says so.
    """
    uuid = "0011aabb:0011aabb:0011aabb:0011aabb"
    (project / "stacks" / "example.yaml").write_text(FLEET.replace("fast: {", f'fast: {{array: "{uuid}", '))

    assert load_stack("rack", project).fleet.hosts["alpha"].tiers["fast"].array == uuid
    stack = load_stack("lab", project)
    assert stack.fleet.hosts["alpha"].tiers["fast"].array is None
    assert "alpha/fast: created on the twin, which has no array to take over" in stack.notices


@pytest.mark.parametrize("left", [b"", b"short"])
def test_a_salt_that_a_full_disk_has_left_is_refused(tmp_path, left):
    """
    Digests of secrets without a key can be guessed.
    """
    path = tmp_path / ".rackwright/salts/rack"
    path.parent.mkdir(parents=True)
    path.write_bytes(left)
    with pytest.raises(DeclarationError, match=f"salts/rack: got {len(left)} bytes; a salt has 8 or more"):
        salt("rack", tmp_path)


@pytest.mark.parametrize("left", ["", "[]", "{}", '{"hosts'])
def test_a_damaged_list_of_a_twins_hosts_is_named_with_its_cure(project, left):
    configure(project, "lab", fleet="example.yaml", target="twin:lab")
    path = project / ".rackwright/twins/lab/endpoints.json"
    path.parent.mkdir(parents=True)
    path.write_text(left)
    with pytest.raises(DeclarationError, match="endpoints.json:1: got .* run `rackwright twin start lab`"):
        load_stack("lab", project)


@pytest.mark.parametrize("way", ["relative", "absolute", "link", "linked directory"])
def test_a_fleet_outside_the_project_is_refused(project, tmp_path_factory, way):
    """
    A fleet may be Python, which is run.
    """
    outside = tmp_path_factory.mktemp("outside") / "fleet.yaml"
    outside.write_text(FLEET)
    (project / "stacks/link.yaml").symlink_to(outside)
    (project / "stacks/linked").symlink_to(outside.parent)
    named = {
        "relative": os.path.relpath(outside, project / "stacks"),
        "absolute": str(outside),
        "link": "link.yaml",
        "linked directory": "linked/fleet.yaml",
    }[way]
    configure(project, "rack", named, "rack")

    with pytest.raises(DeclarationError) as refused:
        load_stack("rack", project)

    text = str(refused.value)
    assert text.startswith("stacks/Pulumi.rack.yaml:2: config.rackwright:fleet: got ")
    assert f"which is {outside}; a fleet is a file of this project, below {project}" in text


def test_a_fleet_elsewhere_in_the_project_is_taken(project):
    (project / "fleets").mkdir()
    (project / "fleets/other.yaml").write_text(FLEET)
    configure(project, "rack", "../fleets/other.yaml", "rack")

    assert load_stack("rack", project).fleet.fleet == "example"
