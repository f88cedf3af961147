"""A key in any file that sshd reads for an account with rights is found, in the home of the first login as well."""

from tests.support.acceptance import line
from tests.support.access_lab import HOST, LOGIN, ROLE, access_lab
from tests.support.expect import need
from tests.support.lab import Claimed, Lab, format_claims
from tests.support.log import Log
from tests.support.login_machine import new_key

KEYS = (ROLE, f"authorized_keys:{LOGIN}")
OWN = f"/home/{LOGIN}/.ssh/authorized_keys"


@line("hardening", "truth", part="missed-keys")
def test_an_undeclared_ssh_key_is_found(log: Log) -> str:
    """A key beside that of the first login gave root for good, and no claim looked there."""
    with access_lab(log) as lab:
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
        need(lab.audit_differences(status=0) == set(), "something differs at the end")
    return "a key, one behind options, a line without a key and a link are found; the key of before is none of them"


def _finds(lab: Lab, change: str, claim: Claimed, back: str = f"cp -p {OWN}.before {OWN}") -> None:
    lab.ssh(HOST, f"cp -p {OWN} {OWN}.before; {change}")
    found = lab.audit_differences()
    lab.ssh(HOST, back)
    need(found == {claim}, f"after `{change[:40]}…` the audit finds {format_claims(found)}")
