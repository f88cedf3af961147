"""Line 5: the account of a run can neither become root nor log in elsewhere, and its key dies with it."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.training_lab import ETC, LAUNCHER, OTHER, RUN, STRANGER, TrainingLab, training_lab

QUIETLY = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=5"
ADDRESS = {LAUNCHER: "10.142.0.11", OTHER: "10.142.0.12", STRANGER: "10.142.0.13"}
ACCOUNT = f"run-{RUN}"


@line("training", 5)
def test_the_account_of_a_run_cannot_become_root_or_log_in_elsewhere(log: Log) -> str:
    with training_lab(log) as lab:
        need(
            lab.ssh(LAUNCHER, _as_it(f"/opt/rackwright/runs/{RUN}/bin/ssh {ADDRESS[OTHER]} id -un")) == ACCOUNT,
            "no way",
        )
        refused = _refused(lab)
        key = lab.ssh(LAUNCHER, f"cat {ETC}/key")
        log("with its key from another host")
        put = f"umask 077; cat > /root/stolen <<'END'\n{key}\nEND\n"
        _fails(lab, STRANGER, f"{put}ssh {QUIETLY} -i /root/stolen -p 7022 {ACCOUNT}@{ADDRESS[OTHER]} true")
        log("removing the run")
        (lab.fleet_path.parent / "training.yaml").write_text("fleet: training\nuses: fleet.yaml\nruns: {}\n")
        lab.up()
        lab.ssh(LAUNCHER, f"umask 077; cat > /root/kept <<'END'\n{key}\nEND\n")
        _fails(
            lab, LAUNCHER, f"ssh {QUIETLY} -i /root/kept -b {ADDRESS[LAUNCHER]} -p 7022 {ACCOUNT}@{ADDRESS[OTHER]} true"
        )
        for host in (LAUNCHER, OTHER):
            _fails(lab, host, f"id {ACCOUNT}")
            need(lab.ssh(host, f"ls {ETC} 2>/dev/null || true") == "", f"{ETC} is left on {host}")
        need("metrics" in lab.ssh(LAUNCHER, f"ls /srv/warm/runs/{RUN}"), "what it wrote is gone, too")
    return f"refused: {', '.join(refused)}; its key from another host; all of it once the run is removed"


def _refused(lab: TrainingLab) -> list[str]:
    key = f"ssh {QUIETLY} -i {ETC}/key"
    tried = {
        "sudo": (OTHER, _as_it("sudo -n true")),
        "the host's own sshd": (LAUNCHER, _as_it(f"{key} {ACCOUNT}@{ADDRESS[OTHER]} true")),
        "a host without the run": (LAUNCHER, _as_it(f"{key} {ACCOUNT}@{ADDRESS[STRANGER]} true")),
        "its own port there": (LAUNCHER, _as_it(f"{key} -p 7022 {ACCOUNT}@{ADDRESS[STRANGER]} true")),
        "root on its sshd": (LAUNCHER, _as_it(f"{key} -p 7022 root@{ADDRESS[OTHER]} true")),
    }
    for what, (host, command) in tried.items():
        lab.log(f"trying {what}")
        _fails(lab, host, command)
    return [*tried]


def _as_it(command: str) -> str:
    return f"runuser -u {ACCOUNT} -- {command}"


def _fails(lab: TrainingLab, host: str, command: str) -> None:
    said = lab.ssh(host, f"({command}) > /tmp/said 2>&1 && echo let in || true", status=0)
    need("let in" not in said, f"{host}: `{command.splitlines()[-1]}` was let in")
