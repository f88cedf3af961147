"""The account of a training run plants links where root writes, and gets nothing by it."""

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.training_lab import LOG, RUN, program_lab

HOST = "oak"
HOME = f"/var/lib/rackwright/runs/{RUN}"
LOGS = LOG.rpartition("/")[0]
RACK = f"""\
fleet: trees
hosts:
  {HOST}:
    profile: virtual
    os: debian-12
    address: 10.42.0.11
    identity: {{serial: TREE-1}}
    tiers: {{warm: {{provided: true, mount: /srv/warm}}}}
"""
TARGET = "/etc/cron.d/rackwright-victim"
"""A file that cron would run as root."""
HOSTILE = f"""#!/bin/sh
case "$*" in
*" start")
  echo start >> {HOME}/starts
  rm -f {HOME}/log; ln -s {TARGET} {HOME}/log
  for attempt in 'rm -f {LOG}' 'mv {LOG} {LOGS}/other' 'ln -sf {TARGET} {LOG}' 'mv {LOGS} {LOGS}.other' \\
    'chmod 0777 {LOGS}' 'echo forged > {LOGS}/new'; do
    sh -c "$attempt" 2> /dev/null && echo "$attempt" >> {HOME}/succeeded
  done
  echo '* * * * * root true'
  [ "$(wc -l < {HOME}/starts)" -ge 3 ] || exit 1
  exec sleep infinity ;;
*" await"*)
  until [ "$(wc -l < {HOME}/starts)" -ge 3 ]; do sleep 0.2; done ;;
esac
"""
"""What stands in the place of Python: the run starts three times, and attacks each time."""


@line("hardening", 1)
def test_a_link_of_a_run_opens_no_file_of_root(log: Log) -> str:
    """systemd opened the log of a run in the account's own directory, through any link that stood there."""
    with program_lab(log, RACK, HOST, HOSTILE) as lab:
        log("starting the hostile run")
        lab.up()
        starts = int(lab.ssh(HOST, f"wc -l < {HOME}/starts"))
        need(starts >= 3, f"the run started {starts} times, so systemd did not open its log again after the attack")
        need(lab.ssh(HOST, f"readlink {HOME}/log") == TARGET, "the run planted no link, so nothing was attacked")
        _nothing_written(lab)
        changed = lab.ssh(HOST, f"cat {HOME}/succeeded 2>/dev/null || true")
        need(changed == "", f"the account changed the directory of the log: {changed}")
        _reads_no_file_of_roots(lab)
        _copies_no_file_of_roots(lab)
        need(lab.differing() == set(), "something differs")
    return f"{starts} starts wrote to {LOG} alone; neither `run logs` nor the copy of an old log shows a file of root's"


def _nothing_written(lab: Lab) -> None:
    need(lab.ssh(HOST, f"ls {TARGET} 2>/dev/null || true") == "", f"root wrote {TARGET}")
    need(lab.ssh(HOST, f"stat -c '%U %a' {LOG}").startswith("root 6"), "the log is not root's")
    need("root true" in lab.ssh(HOST, f"cat {LOG}"), "the output of the run is not in its log")


def _reads_no_file_of_roots(lab: Lab) -> None:
    """Read the log with the old place a link to a secret, and even the log itself: the reader has no rights."""
    lab.ssh(HOST, f"rm {HOME}/log; ln -s /etc/shadow {HOME}/log")
    printed = lab.rackwright("run", "logs", lab.stack, RUN, status=0).stdout
    need("root true" in printed and "root:" not in printed, "`run logs` does not show the log alone")
    lab.ssh(HOST, f"mv {LOG} {LOG}.aside; ln -s /etc/shadow {LOG}")
    printed = lab.rackwright("run", "logs", lab.stack, RUN).stdout
    need("root:" not in printed, "`run logs` reads with the rights of root")
    lab.ssh(HOST, f"rm {LOG}; mv {LOG}.aside {LOG}")


def _copies_no_file_of_roots(lab: Lab) -> None:
    """Make the run again as one of an earlier version, with its log in the account's directory: first a link."""
    lab.ssh(HOST, f"systemctl stop training-{RUN}; rm -r {LOGS}; rm {HOME}/starts")
    lab.up()
    need("root:" not in lab.ssh(HOST, f"cat {LOG}"), "root copied what the account's link points at")
    lab.ssh(HOST, f"systemctl stop training-{RUN}; rm -r {LOGS}; rm {HOME}/log {HOME}/starts")
    lab.ssh(HOST, f"runuser -u run-{RUN} -- sh -c 'echo of an earlier version > {HOME}/log'")
    lab.up()
    eventually(lambda: "root true" in lab.ssh(HOST, f"cat {LOG}"), "the run writes its log")
    need("of an earlier version" in lab.ssh(HOST, f"cat {LOG}"), "the log of an earlier version is lost")
