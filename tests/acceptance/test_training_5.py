"""Line 5: the account of a run can neither become root nor log in elsewhere, and its key dies with it."""

from rackwright.kinds.shared.firewall import table_name
from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.training_lab import ETC, LAUNCHER, OTHER, OUT, RUN, STRANGER, TrainingLab, goes_on, training_lab

QUIETLY = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=5"
ADDRESS = {LAUNCHER: "10.142.0.11", OTHER: "10.142.0.12", STRANGER: "10.142.0.13"}
ACCOUNT = f"run-{RUN}"
DENIED = "Permission denied"


@line("training", 5)
def test_the_account_of_a_run_cannot_become_root_or_log_in_elsewhere(log: Log) -> str:
    with training_lab(log) as lab:
        need(
            lab.ssh(LAUNCHER, _as_it(f"/opt/rackwright/runs/{RUN}/bin/ssh {ADDRESS[OTHER]} id -un")) == ACCOUNT,
            "no way",
        )
        _require_no_secret_on_command_lines(lab)
        refused = _refused(lab)
        key = lab.ssh(LAUNCHER, f"cat {ETC}/key")
        log("with its key from another host")
        put = f"umask 077; cat > /root/stolen <<'END'\n{key}\nEND\n"
        login = f"{put}ssh {QUIETLY} -i /root/stolen -p 7022 {ACCOUNT}@{ADDRESS[OTHER]} true"
        _fails(lab, STRANGER, login, "timed out")
        log("and without the firewall")
        table = f"inet {table_name('run', RUN)}"
        lab.ssh(OTHER, f"nft list table {table} > /root/rules; nft delete table {table}")
        _fails(lab, STRANGER, login, DENIED)
        lab.ssh(OTHER, "nft -f /root/rules")
        log("removing the run")
        (lab.fleet_path.parent / "training.yaml").write_text("fleet: training\nuses: fleet.yaml\nruns: {}\n")
        lab.up()
        lab.ssh(LAUNCHER, f"umask 077; cat > /root/kept <<'END'\n{key}\nEND\n")
        _fails(
            lab, LAUNCHER, f"ssh {QUIETLY} -i /root/kept -b {ADDRESS[LAUNCHER]} -p 7022 {ACCOUNT}@{ADDRESS[OTHER]} true"
        )
        for host in (LAUNCHER, OTHER):
            _fails(lab, host, f"id {ACCOUNT}", "no such user")
            need(lab.ssh(host, f"ls {ETC} 2>/dev/null || true") == "", f"{ETC} is left on {host}")
            left = lab.ssh(host, f"find / -xdev -path '*/runs/{RUN}/*' -not -path '/srv/*' 2>/dev/null || true")
            need(left == "", f"left on {host}: {left}")
            owner = lab.ssh(host, f"ls /var/lib/rackwright/owners | grep run-{RUN} || true")
            need(owner == "", f"the owner file {owner} is left on {host}")
        need("metrics" in lab.ssh(LAUNCHER, f"ls {OUT}"), "what it wrote is gone, too")
        kept = lab.ssh(LAUNCHER, f"stat -c %U {OUT}/checkpoints; ls {OUT}/checkpoints").split()
        need(kept[0] == "root" and any(name.startswith("step-") for name in kept), f"its checkpoints: {kept}")
    return f"refused: {', '.join(refused)}; its key from another host; all of it once the run is removed"


def _require_no_secret_on_command_lines(lab: TrainingLab) -> None:
    goes_on(lab, LAUNCHER, steps=20)  # until it has saved a checkpoint
    key = lab.ssh(LAUNCHER, f"cat {ETC}/key").splitlines()
    for host in (LAUNCHER, OTHER):
        command_lines = lab.ssh(host, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
        need("workloads.training" in command_lines, f"no process of the run is on {host}")
        secrets = (derive_value("training_key"), *key[1:-1])
        need(not [secret for secret in secrets if secret in command_lines], f"a secret is on a command line of {host}")


def _refused(lab: TrainingLab) -> list[str]:
    key = f"ssh {QUIETLY} -i {ETC}/key"
    tried = {
        "sudo": (OTHER, _as_it("sudo -n true"), "password is required"),
        "sudo from a unit of it": (
            OTHER,
            f"systemd-run --quiet --pipe --wait -p User={ACCOUNT} -p NoNewPrivileges=yes sudo -n true",
            "no new privileges",
        ),
        "the host's own sshd": (LAUNCHER, _as_it(f"{key} {ACCOUNT}@{ADDRESS[OTHER]} true"), DENIED),
        "a host without the run": (LAUNCHER, _as_it(f"{key} {ACCOUNT}@{ADDRESS[STRANGER]} true"), DENIED),
        "its own port there": (LAUNCHER, _as_it(f"{key} -p 7022 {ACCOUNT}@{ADDRESS[STRANGER]} true"), "refused"),
        "root on its sshd": (LAUNCHER, _as_it(f"{key} -p 7022 root@{ADDRESS[OTHER]} true"), DENIED),
    }
    for what, (host, command, reason) in tried.items():
        lab.log(f"trying {what}")
        _fails(lab, host, command, reason)
    return [*tried]


def _as_it(command: str) -> str:
    return f"runuser -u {ACCOUNT} -- {command}"


def _fails(lab: TrainingLab, host: str, command: str, reason: str = "") -> None:
    printed = lab.ssh(host, f"if ({command}) > /tmp/printed 2>&1; then echo let in; else cat /tmp/printed; fi")
    need("let in" not in printed, f"{host}: `{command.splitlines()[-1]}` was let in")
    need(reason in printed, f"{host}: `{command.splitlines()[-1]}` failed for another reason: {printed[-300:]}")
