"""A key in any file that sshd reads for an account with rights is found, in the home of the first login as well."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.accept.harness import Log, Skipped, check, need
from tests.accept.lab import Claimed, Lab, told
from tests.roles.machine import new_key
from tests.roles.rack import access, fleet

HOST, LOGIN = "alpha", "rackwright"
ROLE = f"{HOST}/access"
KEYS = (ROLE, f"authorized_keys:{LOGIN}")
OWN = f"/home/{LOGIN}/.ssh/authorized_keys"


@contextmanager
def accessible(log: Log) -> Iterator[Lab]:
    """A host with role access, on which nothing differs: people need no code there."""
    if os.geteuid() != 0:
        raise Skipped("containers need root")
    directory = log.empty_directory()
    variables = {**access(Path(directory, "keys")), "totp": False, "audit": False}
    declared = fleet([HOST], {"base": {"security_updates": False}, "access": variables})
    with Lab(directory / "project", declared, log, containers=[HOST]) as lab:
        lab.start()
        log("making the host")
        lab.up()
        need(lab.audited(status=0) == set(), "something differs on a new host")
        yield lab


@check("hardening.truth[missed-keys]")
def a_key_that_nobody_declared_is_found(log: Log) -> str:
    """A key beside that of the first login gave root for good, and no claim looked there."""
    with accessible(log) as lab:
        key = new_key(lab.directory.parent / "keys" / "intruder")
        _finds(lab, f"echo '{key}' >> {OWN}", KEYS)
        _finds(lab, f"""echo 'command="id" {key}' >> {OWN}""", KEYS)
        _finds(lab, f"echo 'not a key' >> {OWN}", KEYS)
        lab.ssh(HOST, f"mv {OWN} {OWN}.aside; cp -p {OWN}.aside {OWN}.elsewhere; ln -s {OWN}.elsewhere {OWN}")
        unknown = [
            item["claim"] for each in lab.audit()["resources"] for item in each["differences"] if item["unknown"]
        ]
        lab.ssh(HOST, f"mv -fT {OWN}.aside {OWN}")
        need(unknown == [KEYS[1]], f"with a link in the place of the file, unknown is {unknown}")
        spread = f"echo '{key}' > /etc/ssh/authorized_keys.d/root"
        _finds(lab, spread, (ROLE, "directory:/etc/ssh/authorized_keys.d"), "rm /etc/ssh/authorized_keys.d/root")
        need(lab.audited(status=0) == set(), "something differs at the end")
    return "a key, one behind options, a line without a key and a link are found; the key of before is none of them"


def _finds(lab: Lab, change: str, claim: Claimed, back: str = f"cp -p {OWN}.before {OWN}") -> None:
    lab.ssh(HOST, f"cp -p {OWN} {OWN}.before; {change}")
    found = lab.audited()
    lab.ssh(HOST, back)
    need(found == {claim}, f"after `{change[:40]}…` the audit finds {told(found)}")
