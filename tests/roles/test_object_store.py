"""The role object_store: what it puts on a host, what it refuses, and what its parts answer to whom."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rackwright.facts.probe.object_store import buffered_files, odd_rights
from rackwright.facts.probe.observe import attempt
from rackwright.kinds.role.refusals import refusals
from tests.support.store_cuts import BUCKET, lost_objects, machines
from tests.support.store_parts import (
    ACCOUNTS,
    CONFIGURED,
    READY_SECONDS,
    SECRETS,
    SOURCE,
    Parts,
    commands,
    files,
    make_synchronous,
    promised,
    spec,
)


def test_secrets_are_in_files_that_only_root_and_the_account_read():
    made = promised()
    holding = {file.file for file in made.files if any(value in str(file.content) for value in SECRETS.values())}

    assert holding == {f"{CONFIGURED}/accounts.json", "/etc/seaweedfs/security.toml"}
    assert {(file.mode, file.owner) for file in made.files if file.file in made.secret_files} == {
        ("0640", "root:object_store")
    }
    assert not [value for value in SECRETS.values() if value in str(commands(made))]


def test_only_declared_accounts_manage_buckets():
    identities = json.loads(files(promised())[f"{CONFIGURED}/accounts.json"])["identities"]

    assert {each["name"]: bool(each["actions"]) for each in identities} == {"rackwright": True, "trainer": False}


def test_each_part_asks_for_a_certificate_and_a_token():
    security = tomllib.loads(files(promised())["/etc/seaweedfs/security.toml"])

    assert all(security["https"][part]["ca"] for part in ("master", "volume", "filer"))
    assert all(security["grpc"][part]["cert"] for part in ("master", "volume", "filer", "s3", "client"))
    keys = (security["jwt"]["signing"], security["jwt"]["filer_signing"])
    assert {each["key"] for part in keys for each in (part, part["read"])} == {SECRETS["internal"]}


def test_no_part_searches_a_directory_of_its_account_for_settings():
    """The first security.toml of the working directory, of home, of /usr/local/etc and of /etc counts."""
    made = promised()
    only = {
        entry.directory: entry.only for entry in made.entries if entry.sort == "directory" and entry.only is not None
    }
    units = [text for path, text in files(made).items() if path.endswith(".service")]

    assert only == {"/etc/seaweedfs": ("security.toml",), "/usr/local/etc/seaweedfs": ()}
    assert len(units) == 4
    for unit in units:
        [folder], [home] = re.findall(r"^WorkingDirectory=(.*)$", unit, re.M), re.findall(r"HOME=(.*)$", unit, re.M)
        assert {folder, home} <= {*only}


def test_a_host_of_disks_has_no_names_and_no_gateway():
    made = promised(address="192.0.2.22", gateway="192.0.2.21")

    assert {*commands(made)} == {"object-store-volume", "object-store-names"}
    assert "-filer=192.0.2.21:8888" in commands(made)["object-store-names"]
    assert not [path for path in files(promised()) if "names" in path]
    assert "-master=192.0.2.21:9333" in commands(made)["object-store-volume"]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"accounts": ACCOUNTS[1:]}, "got no account with admin"),
        ({"accounts": [ACCOUNTS[0], ACCOUNTS[0]]}, "got the account rackwright more than once"),
        ({"accounts": [{**ACCOUNTS[0], "name": "rackwright\n"}]}, 'got the account "rackwright\\n"'),
        ({"accounts": [{**ACCOUNTS[0], "key": "in clear text"}]}, "got the key of rackwright in plain text"),
        ({"certificate": ""}, "got no certificate, or none of its authority"),
        ({"key": ""}, "got no key"),
        ({"internal_key": "in clear text"}, "got the key in plain text"),
        ({"address": "2001:db8::1"}, "got 2001:db8::1"),
        ({"port": 443}, "got 443"),
        ({"volume_mib": 32}, "got 32"),
        ({"data": "/"}, 'got "/"'),
    ],
)
def test_what_the_role_refuses(variables, problem):
    assert problem in [each.diagnostic.problem for each in refusals(SOURCE, "debian-12", spec(**variables).variables)]


# --- the parts as the role starts them, on loopback


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Iterator[Parts]:
    with Parts(tmp_path_factory.mktemp("parts")) as running:
        client = running.client("rackwright", "archive_key")
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                client.create_bucket(Bucket="models")
                client.put_object(Bucket="models", Key="m", Body=b"weights")
                break
            except client.exceptions.BucketAlreadyOwnedByYou:
                client.delete_bucket(Bucket="models")
            except client.exceptions.ClientError:
                assert time.monotonic() < end
                time.sleep(0.5)
        yield running


def curl(*arguments: str) -> tuple[int, str]:
    """Return the exit status of curl, and the HTTP status with the answer."""
    argv = ("curl", "--silent", "--max-time", "10", "--write-out", "%{http_code}", *arguments)
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("port", ["9333", "9340", "8888"])
@pytest.mark.parametrize("path", ["/", "/dir/status", "/status", "/buckets/models/m", "/cluster/status"])
def test_no_part_answers_without_a_certificate(parts, port, path):
    place = f"127.0.0.1:{parts.ports[port]}{path}"
    status, _ = curl("--cacert", str(parts.directory / "authority.crt"), f"https://{place}")
    _, plain = curl(f"http://{place}")

    assert status != 0
    assert plain.endswith("400")


def test_s3_answers_only_what_an_account_has_signed(parts):
    url, ca = f"https://127.0.0.1:{parts.ports['8333']}", ("--cacert", str(parts.directory / "authority.crt"))

    assert {path: curl(*ca, url + path)[1][-3:] for path in ("/", "/models", "/models/m")} == dict.fromkeys(
        ("/", "/models", "/models/m"), "403"
    )
    assert parts.client("rackwright", "archive_key").get_object(Bucket="models", Key="m")["Body"].read() == b"weights"
    trainer = parts.client("trainer", "trainer_key")
    with pytest.raises(trainer.exceptions.ClientError, match="AccessDenied"):
        trainer.get_object(Bucket="models", Key="m")


def test_a_bucket_is_neither_made_by_an_upload_nor_deleted_with_its_objects(parts):
    client = parts.client("rackwright", "archive_key")

    with pytest.raises(client.exceptions.ClientError, match="NoSuchBucket"):
        client.put_object(Bucket="another", Key="m", Body=b"1")
    with pytest.raises(client.exceptions.ClientError, match="BucketNotEmpty"):
        client.delete_bucket(Bucket="models")


def test_no_part_writes_to_its_working_directory(parts):
    assert [path.name for path in (parts.directory / "etc/seaweedfs").iterdir()] == ["security.toml"]


def test_no_part_listens_elsewhere(parts):
    listing = subprocess.run(("ss", "-Hltnp"), capture_output=True, text=True, check=True).stdout
    ids = {f"pid={process.pid}," for process in parts.processes.values()}
    found = {line.split()[3] for line in listing.splitlines() if any(each in line for each in ids)}

    with_grpc = {port + 10000 for port in [*parts.ports.values()][:4]}
    assert found == {f"127.0.0.1:{port}" for port in {*parts.ports.values()} | with_grpc}


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 0), ("127.0.0.2", 2)])
def test_the_role_waits_until_the_master_knows_the_host(parts, address, status, tmp_path):
    tasks = yaml.safe_load((Path(__file__).parents[2] / "roles/object_store/tasks/start.yml").read_text())
    wait = next(task for task in tasks if task["name"] == "Wait until the store has room on this host")
    wait["block"][0] |= {"retries": 1, "delay": 0}
    own = {"object_store_address": address, "object_store_gateway": "127.0.0.1", "object_store_data": "/srv/warm"}
    own |= {"object_store_volume_mib": 64, "ansible_python_interpreter": sys.executable}
    play = {"hosts": "localhost", "gather_facts": False, "vars": own, "tasks": [wait]}
    (tmp_path / "play.yml").write_text(parts.moved(json.dumps([play])))
    argv = (Path(sys.executable).parent / "ansible-playbook", "--inventory", "localhost,", "--connection", "local")

    done = subprocess.run((*argv, tmp_path / "play.yml"), capture_output=True, text=True)

    no_room = "the store has no room on this host: /srv/warm needs" in " ".join(done.stdout.split())
    assert (done.returncode, no_room) == (status, status > 0), done.stdout


# --- last, because it replaces the filer of the parts


def test_a_copy_of_the_names_takes_the_place_of_lost_ones(parts):
    client = parts.client("rackwright", "archive_key")
    made = promised(address="127.0.0.2", gateway="127.0.0.1", data=str(parts.directory / "other"))
    config = parts.directory / "names.toml"
    config.write_text(files(made)[f"{CONFIGURED}/names.toml"])
    copy = parts.directory / "other/object_store/names"
    copy.mkdir(parents=True)
    command = [parts.moved(each).replace("$$", "$") for each in commands(made)["object-store-names"]]
    program = next(number for number, each in enumerate(command) if each.endswith("/bin/weed"))
    argv = [*command[:program], *parts.program, *command[program + 1 : -1], f"-config={config}"]
    where = parts.directory / "etc/seaweedfs"
    parts.stop("filer")  # the copy waits for a gateway that comes later
    with subprocess.Popen(argv, cwd=where, stderr=subprocess.PIPE, env={"HOME": "/"}, start_new_session=True) as run:
        assert run.stderr
        assert any(b"connection refused" in line for line in run.stderr)
        parts.start("filer")
        client.put_object(Bucket="models", Key="copied", Body=b"weights")
        assert any(b"+ /buckets/models/copied" in line for line in run.stderr), "the copy has ended"
        # each name is printed before it is written, one after the other
        client.put_object(Bucket="models", Key="later", Body=b"weights")
        assert any(b"+ /buckets/models/later" in line for line in run.stderr), "the copy has ended"
        os.killpg(run.pid, signal.SIGKILL)

    own = parts.directory / "tier/object_store/filer"
    parts.stop("filer")
    shutil.rmtree(own)
    parts.start("filer")
    with pytest.raises(client.exceptions.ClientError):
        client.get_object(Bucket="models", Key="copied")
    parts.stop("filer")
    shutil.rmtree(own)
    shutil.copytree(copy, own)
    parts.start("filer")

    assert client.get_object(Bucket="models", Key="copied")["Body"].read() == b"weights"


# --- the writes of the store, on a drive of its own


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_a_power_cut_loses_no_acknowledged_object(filesystem, tmp_path):
    def prepare(directory: Path) -> None:
        assert make_synchronous(directory).stdout.startswith("changed")

    acknowledged = {}
    with machines(tmp_path, filesystem, 1, prepare) as store:
        for number in range(5):
            content = os.urandom(500_000)
            store.client().put_object(Bucket=BUCKET, Key=f"k{number}", Body=content)
            acknowledged[f"k{number}"] = hashlib.sha256(content).hexdigest()
        drives = store.cut("now")
        assert buffered_files(f"{tmp_path}/mount-0/object_store") == []

        assert lost_objects(store, drives, acknowledged) == []


def test_files_from_before_become_synchronous(tmp_path):
    (tmp_path / "store/volumes").mkdir(parents=True)
    (tmp_path / "store/volumes/1.dat").write_text("objects")
    assert len(buffered_files(f"{tmp_path}/store")) == 3

    assert make_synchronous(tmp_path / "store").stdout == "changed 3 files and directories\n"
    assert make_synchronous(tmp_path / "store").stdout == ""
    (tmp_path / "store/volumes/2.dat").write_text("objects")
    assert buffered_files(f"{tmp_path}/store") == []


def test_a_link_is_no_synchronous_directory_and_is_refused(tmp_path):
    """The store would write to its target."""
    (tmp_path / "store/volumes").mkdir(parents=True)
    assert make_synchronous(tmp_path / "store").returncode == 0
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store/volumes").rmdir()
    (tmp_path / "store/volumes").symlink_to(tmp_path / "elsewhere")

    assert buffered_files(f"{tmp_path}/store") == [f"{tmp_path}/store/volumes"]
    done = make_synchronous(tmp_path / "store")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}/store/volumes is a link to {tmp_path}/elsewhere: stop the store")


def test_files_that_other_accounts_can_use_are_named_and_taken_back(tmp_path):
    (tmp_path / "store/volumes").mkdir(parents=True, mode=0o700)
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "store").chmod(0o700)
    places = f"{tmp_path}/store", f"{tmp_path}/home"
    account = os.geteuid(), os.getegid()
    assert odd_rights(*places, *account) == []

    (tmp_path / "store/volumes").chmod(0o777)
    (tmp_path / "store/names").write_text("")
    (tmp_path / "store/names").chmod(0o602)
    (tmp_path / "store/1.vif").write_text("")
    (tmp_path / "store/1.vif").chmod(0o644)  # as the store writes it
    (tmp_path / "home").chmod(0o750)
    assert odd_rights(*places, *account) == [
        f"{tmp_path}/store/names: mode 0602",
        f"{tmp_path}/store/volumes: mode 0777",
        f"{tmp_path}/home: mode 0750",
    ]
    (tmp_path / "store").chmod(0o755)
    assert f"{tmp_path}/store/1.vif: mode 0644" in odd_rights(*places, *account)
    assert make_synchronous(tmp_path / "store", tmp_path / "home").stdout.startswith("changed")
    assert odd_rights(*places, *account) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_files_of_another_account_are_named(tmp_path):
    (tmp_path / "store").mkdir(mode=0o700)
    os.chown(tmp_path / "store", 65534, 65534)

    assert odd_rights(f"{tmp_path}/store", f"{tmp_path}/home", 0, 0) == [f"{tmp_path}/store: owner nobody:nogroup"]
    done = make_synchronous(tmp_path / "store")
    assert done.returncode == 1 and "store belongs to another account: give it to object_store" in done.stderr


def test_a_filesystem_without_synchronous_writes_is_named():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        done = make_synchronous(Path(directory))
        found = attempt(buffered_files, directory)

    assert done.returncode == 1
    assert "its filesystem has no synchronous writes" in done.stderr
    assert found == [directory] or "unknown" in found
