"""The mounts of paths of a host for pods: each shows the declared directory, and no place to which a link leads.

The command of the unit runs in a mount namespace of its own, as systemd runs it when the host starts and in `up`.
"""

import os
import re
import shlex
import subprocess

import pytest

from rackwright.kinds.pods import mounts
from rackwright.kinds.shared.service_account import UNITS
from tests.support.pod_workloads import RUN, SERVING, TRAINING
from tests.support.recorded_hosts import STACK

SET_UP = """set -eu
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/root/sub /mnt/srv/data/set
chmod 700 /mnt/root
touch /mnt/srv/data/set/declared /mnt/root/sub/secret
chown 65534 /mnt/srv/data
{before}
status=0
{start} || status=$?
{after}
ls -A {target} || echo no directory
awk -v where={target} '$5 == where {{ print $6 }}' /proc/self/mountinfo
exit $status
"""
SOURCE, TARGET = "/mnt/srv/data/set", "/mnt/pods/set"
AS_ANOTHER = "setpriv --reuid 65534 --clear-groups "
AWAY = f"{AS_ANOTHER} mv {SOURCE} /mnt/srv/data/x; "
LINK = f"{AWAY}{AS_ANOTHER} ln -s /mnt/root/sub {SOURCE}"
ABOVE = "mv /mnt/srv/data /mnt/srv/moved; ln -s /mnt/srv/moved /mnt/srv/data"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def units() -> list[dict[str, str]]:
    """Return the keys of all units of a run and of a server."""
    texts = [
        str(file.content)
        for workload in (TRAINING, SERVING)
        for file in mounts.files(workload, "id", STACK.repository)
        if file.path.startswith(UNITS)
    ]
    lines = [[each.partition("=") for each in text.splitlines() if "=" in each and each[0] != "#"] for text in texts]
    return [{key: value for key, _, value in several} for several in lines]


def command(key: str) -> str:
    """Return a command of a unit for SOURCE and TARGET, with the program of the repository."""
    unit = units()[0]
    path, program = unit["RequiresMountsFor"].split()
    target = unit["ExecStop"].split()[-1]
    changed = {path: SOURCE, program: str(mounts.PROGRAM), target: TARGET}
    return shlex.join(changed.get(each, each) for each in unit[key].removeprefix("-").split())


def started(before: str = "", after: str = "", more: str = "") -> "subprocess.CompletedProcess[str]":
    script = SET_UP.format(before=before, start=command("ExecStart") + more, after=after, target=TARGET)
    argv = ["unshare", "--mount", "sh", "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_each_path_is_mounted_by_the_program_before_kubelet_starts() -> None:
    """A mount unit is mount(8), which follows links."""
    several = [each for workload in (TRAINING, SERVING) for each in mounts.mounts(workload)]
    assert len(units()) == len(several) > 4
    for unit, each in zip(units(), several, strict=True):
        assert unit["Before"] == "kubelet.service" and unit["Type"] == "oneshot"
        program = unit["RequiresMountsFor"].split()[-1]
        assert program.endswith("/mount_read_only.py") and "What" not in unit
        assert unit["ExecStart"].split()[-3:] == [program, each.source, each.target]
        assert each.unit.endswith(".service")


@as_root
def test_the_declared_directory_is_mounted_to_be_read_only() -> None:
    done = started()
    assert done.returncode == 0, done.stderr
    name, options = done.stdout.split()
    assert name == "declared" and {"ro", "nosuid", "nodev"} <= {*options.split(",")}


@as_root
def test_a_restart_leaves_one_mount() -> None:
    done = started(after=f"{command('ExecStop')}; {command('ExecStart')}")
    assert done.returncode == 0 and len(done.stdout.split()) == 2, done.stderr


@as_root
@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (LINK, "leads through the link set"),
        (ABOVE, "leads through the link data"),
        (LINK.replace("/mnt/root/sub", "../../root/sub"), "leads through the link set"),
        (f"{AWAY}{AS_ANOTHER} ln -s x {SOURCE}", "leads through the link set"),
        (AWAY, "No such file"),
        (f"{AWAY}touch {SOURCE}", "is no directory"),
    ],
    ids=["a link", "a link above", "a relative link", "a link to the same directory", "nothing", "a file"],
)
def test_a_path_that_was_replaced_before_the_host_starts_is_refused(before: str, reason: str) -> None:
    """Nothing is mounted, and pods do not find the directory of the mount."""
    done = started(before)
    assert done.returncode == 1 and reason in done.stderr, done.stderr
    assert done.stdout == "no directory\n"


@as_root
def test_what_a_run_reads_is_whole_or_not_shown() -> None:
    """A mount below the directory is not part of what pods get: they would see what lies under it."""
    reads = TRAINING.model_copy(update={"run": RUN.model_copy(update={"reads": ("/srv/data",)})})
    [last, *_] = [
        str(file.content)
        for file in mounts.files(reads, "id", STACK.repository)
        if "reads" in file.path and file.path.startswith(UNITS)
    ]
    assert re.search("^ExecStart=.* /srv/data .* whole$", last, re.MULTILINE)
    below = f"mkdir {SOURCE}/deep; mount -t tmpfs tmpfs {SOURCE}/deep"
    done = started(below, more=" whole")
    assert done.returncode == 1 and f"{SOURCE}/deep is a mount below it" in done.stderr
    assert done.stdout == "no directory\n"
    assert started(below).returncode == 0
    itself = f"mount -t tmpfs tmpfs {SOURCE}; touch {SOURCE}/mounted"
    done = started(itself, more=" whole")
    assert done.returncode == 0 and done.stdout.split()[0] == "mounted"


@as_root
def test_a_link_that_comes_later_changes_no_mount() -> None:
    done = started(after=LINK)
    assert done.returncode == 0 and done.stdout.split()[0] == "declared"


@as_root
def test_no_moment_of_many_replacements_shows_another_directory() -> None:
    """An account exchanges the directory and a link all the time while the host mounts it again and again."""
    exchange = (
        f"{AS_ANOTHER} sh -c 'while :; do mv {SOURCE} /mnt/srv/data/x; ln -s /mnt/root/sub {SOURCE};"
        f" rm {SOURCE}; mv /mnt/srv/data/x {SOURCE}; done' 2>/dev/null & exchanger=$!"
    )
    again = (
        f"shown= tries=0; while [ $tries -lt 400 ] && [ ${{#shown}} -lt 90 ]; do tries=$((tries + 1));"
        f" if {command('ExecStart')} 2>/dev/null; then"
        f' shown="$shown $(ls {TARGET})"; {command("ExecStop")}; fi; done; kill $exchanger; echo $shown'
    )
    done = started(f"{exchange}\n{again}")
    shown = done.stdout.splitlines()[0].split()
    assert len(shown) >= 10 and {*shown} == {"declared"}, done.stdout
