"""Line 6: planted secrets appear nowhere but where they belong."""

import contextlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.ansible_inventory import read_inventory
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.leaks import files, find_forms, forms, leaks
from tests.support.log import Log
from tests.support.login_machine import enrol_in_terminal, new_key
from tests.support.watch import Watch

HOST, PERSON = "alpha", "olga"
SET, DERIVED = "first_key", "second_key"
"""A secret that is given a value, and one that nobody sets."""
MEMORY = (Path("/dev/shm"), Path("/run"))
TEMPORARY = Path("/tmp")
LARGEST = 64 << 20
"""Bytes of a passing file that is looked into: what is larger is the disk of somebody's machine."""


@line("roles", 6)
def test_secrets_appear_nowhere_but_on_their_hosts(log: Log) -> str:
    """Two values of a role's secret, a derived one, a seed and a password; a whole life of a host with them."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    began = time.time()
    directory = log.empty_directory()
    password, values = _word("password"), [_word("old"), _word("new")]
    planted = {"old": values[0], "new": values[1], "derived": derive_value(DERIVED), "password": password}
    with Lab(directory / "project", _fleet(directory), log) as lab, Watch() as watch:
        _settle(lab)
        lab.start()
        output = [_life(lab, values, planted)]
        keys = [_ask(lab, "cat /etc/chrony/chrony.keys")]
        need(values[1] in keys[0] and planted["derived"] in keys[0], "the host has not got its keys")
        keys.append(keys[0].replace(values[1], values[0]))
        planted["hash"] = _ask(lab, f"getent shadow {PERSON} | cut -d: -f2").removeprefix("!")
        seed = _ask(lab, f"cat /var/lib/totp/{PERSON}")
        wanted = forms(planted, [f"{text}\n" for text in (*keys, seed)])

        log("looking for what was planted")
        need(not (found := _shown(lab, wanted, watch, "".join(output), began)), "; ".join(found[:8]))
        log("planting leaks, to see them found")
        _instruments(lab, wanted, planted, watch, began)
        places = len(list(_kept(lab)))
        return (
            f"{len(wanted)} forms of {len(planted)} secrets in none of {places} files, {len(watch.lines)} command lines"
        )


def _word(name: str) -> str:
    return f"{name}-{secrets.token_urlsafe(18)}"


def _fleet(directory: Path) -> Path:
    keys = [
        {"id": number, "type": "SHA256", "key": {"secret": name}, "servers": [f"time-{number}.example"]}
        for number, name in enumerate((SET, DERIVED), start=1)
    ]
    access = {
        "people": [{"name": PERSON, "function": "operator", "keys": [new_key(directory / PERSON)]}],
        "bootstrap_user": "rackwright",
    }
    base = {"ntp_servers": ["time-1.example", "time-2.example"], "ntp_keys": keys, "security_updates": False}
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "roles": {"base": base, "access": access},
    }
    path = directory / "fleet.yaml"
    with path.open("w") as file:
        YAML().dump({"fleet": "secrets", "hosts": {HOST: host}}, file)
    return path


def _settle(lab: Lab) -> None:
    settings = lab.directory / "stacks" / f"Pulumi.{lab.stack}.yaml"
    config = YAML(typ="safe").load(settings)
    config["config"]["rackwright:containers"] = [HOST]
    with settings.open("w") as file:
        YAML().dump(config, file)
    lab.environment["PULUMI_DEBUG_COMMANDS"] = "true"
    lab.pulumi("stack", "select", "--create", status=0)


def _ask(lab: Lab, script: str, input: str = "") -> str:
    """Run *script* as root on the host, past the check's own log, and return what it prints."""
    argv = lab.twin.ssh(HOST, f"sudo -n sh -ec '{script}'")
    done = subprocess.run(argv, input=input, text=True, capture_output=True)
    need(done.returncode == 0, f"`{script}` on {HOST} ended with {done.returncode}: {done.stderr}")
    return done.stdout.strip()


def _life(lab: Lab, values: list[str], planted: dict[str, str]) -> str:
    """Make the host, enrol a person, change a secret, audit it and print its inventory; return all output."""
    log, output = lab.log, list[str]()

    def note(done: subprocess.CompletedProcess[str]) -> None:
        output.append(done.stdout + done.stderr)

    log("up with the first value")
    lab.set_secret(SET, values[0])
    note(lab.up(status=1))  # nobody has enrolled yet
    log("a person enrols, and is given a password")
    planted["seed"] = _enrol(lab)
    _ask(lab, "chpasswd", f"{PERSON}:{planted['password']}")
    _ask(lab, f"usermod --lock {PERSON}")
    note(lab.up())

    log("another value: previewed in detail, and made so")
    lab.set_secret(SET, values[1])
    note(lab.pulumi("preview", "--diff", "--event-log", "preview.events", "--logtostderr", "-v=9", status=0))
    need("/etc/chrony/chrony.keys" in output[-1], "the preview does not say that the keys change")
    note(lab.pulumi("up", "--yes", "--diff", "--event-log", "up.events", status=0))
    log("a run that fails, with all that Ansible says")
    _ask(lab, "rm /etc/chrony/chrony.keys; mkdir -p /etc/chrony/chrony.keys/in-the-way")
    note(lab.up(status=4))
    _ask(lab, "rm -r /etc/chrony/chrony.keys")
    note(lab.up())

    log("audit, snapshots, inventory")
    note(lab.rackwright("audit", lab.stack, "--save", str(lab.directory / "snapshots"), status=0))
    note(lab.rackwright("audit", lab.stack, "--json", status=0))
    note(lab.rackwright("digests", lab.stack, status=0))
    note(inventory := lab.rackwright("inventory", lab.stack, status=0))
    need("/etc/chrony/chrony.keys" in inventory.stderr, "the inventory does not say what it leaves out")
    _whole_inventory(lab, values[1])
    return "".join(output)


def _enrol(lab: Lab) -> str:
    """Enrol the person in a terminal, as people do, and return the seed that it shows."""
    program = str(lab.directory / ".venv/bin/rackwright")
    status, text = enrol_in_terminal(program, ["enrol", lab.stack, PERSON], lab.directory)
    need(status == 0, "no person could be enrolled")
    [seed] = re.findall(r"type ([A-Z2-7]{32})", text)
    return str(seed)


def _whole_inventory(lab: Lab, value: str) -> None:
    """With secrets it is written to memory alone, for nobody else."""
    refused = lab.rackwright("inventory", lab.stack, "--secrets", str(lab.directory), status=2)
    need("not on a tmpfs or ramfs" in refused.stderr, f"a directory on a disk: {refused.stderr}")
    with tempfile.TemporaryDirectory(dir=MEMORY[0]) as memory:
        lab.rackwright("inventory", lab.stack, "--secrets", memory, status=0)
        inventory = read_inventory(Path(memory, "inventory.yml").read_text())
        keys = inventory["all"]["hosts"][HOST]["base_ntp_keys"]
        need(keys[0]["key"] == value, "the inventory with secrets has them not")
        Path(memory).chmod(0o755)
        lab.rackwright("inventory", lab.stack, "--secrets", memory, status=2)


# --- where it is looked for


def _kept(lab: Lab) -> Iterator[Path]:
    """Yield what the project keeps, and the check's log; not the host's own disk, which has them by right."""
    disks = lab.twin.layout.disks
    own = (path for path in lab.directory.iterdir() if not path.is_symlink())
    yield from (path for path in files(*own, lab.log.path) if not path.is_relative_to(disks))


def _passing(lab: Lab, began: float) -> Iterator[Path]:
    """Yield what was written since to places for passing things."""
    for path in files(TEMPORARY, *MEMORY):
        with contextlib.suppress(OSError):
            state = path.stat()
            if state.st_mtime >= began and state.st_size <= LARGEST and not path.is_relative_to(lab.directory.parent):
                yield path


def _shown(lab: Lab, wanted: Mapping[str, bytes], watch: Watch, output: str, began: float) -> list[str]:
    """Return where any of the *wanted* is seen."""
    found = [*leaks(wanted, *_kept(lab)), *leaks(wanted, *_passing(lab, began))]
    found += [f"what commands printed: {name}" for name in find_forms(output.encode(), wanted)]
    found += [f"a command line: {name}" for line in list(watch.lines) for name in find_forms(line, wanted)]
    for program, environments in watch.ours.items():
        found += [f"the environment of {program}: {name}" for each in environments for name in find_forms(each, wanted)]
    need(set(watch.ours) == {"rackwright.provider", "ansible-playbook"}, f"only {set(watch.ours)} was seen running")
    return found


def _instruments(lab: Lab, wanted: Mapping[str, bytes], planted: dict[str, str], watch: Watch, began: float) -> None:
    """Plant a leak of each sort, and see it found: what finds nothing may only be blind."""
    for place in (lab.directory, *MEMORY, TEMPORARY):
        with tempfile.NamedTemporaryFile(dir=place, prefix="planted-") as file:
            file.write(" ".join(planted.values()).encode())
            file.flush()
            path = Path(file.name)
            need(path in {*_kept(lab), *_passing(lab, began)}, f"nobody looks into {place}")
            found = leaks(wanted, path)
            need(len(found) >= len(planted), f"of {len(planted)} secrets planted in {place} these were found: {found}")
    with subprocess.Popen([sys.executable, "-c", "input()", planted["new"]], stdin=subprocess.PIPE) as process:
        eventually(
            lambda: any(find_forms(line, wanted) for line in list(watch.lines)), "a secret on a command line is seen"
        )
        process.communicate(b"\n")
