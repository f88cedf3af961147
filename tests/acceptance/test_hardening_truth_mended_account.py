"""The next `up` locks an account whose password was deleted, and delays nothing else."""

from tests.support.acceptance import line
from tests.support.access_lab import HOST, ROLE, access_lab
from tests.support.expect import need
from tests.support.lab import format_claims
from tests.support.log import Log

PERSON, TOOLS = "olga", "deploy"
OTHER = (f"{HOST}/base", "file:/etc/chrony/chrony.conf")


@line("hardening", "truth", part="mended-account")
def test_an_account_without_a_password_is_locked_again(log: Log) -> str:
    """`up` found it, played the role to no effect, and ended with 4 each time."""
    with access_lab(log) as lab:
        log("deleting passwords, and changing a file of another role")
        lab.ssh(HOST, f"passwd -d {PERSON}; passwd -d {TOOLS}; echo '# more' >> {OTHER[1].partition(':')[2]}")
        found = lab.audit_differences()
        need(
            found == {(ROLE, f"user:{PERSON}"), (ROLE, f"user:{TOOLS}"), OTHER},
            f"the audit finds {format_claims(found)}",
        )
        lab.up()
        need(lab.audit_differences(status=0) == set(), "something differs after `up`")
        fields = lab.ssh(HOST, f"getent shadow {PERSON} {TOOLS} | cut -d: -f2").split()
        need(fields == ["*", "*"], f"their passwords are {fields}")
        lab.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", status=0)
    return "one `up` locks the accounts of a person and of tools, mends another role, and a second one changes nothing"
