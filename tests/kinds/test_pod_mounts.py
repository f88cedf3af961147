"""The mounts of paths of a host for pods: each shows the declared directory, and no place to which a link leads."""

import os
import subprocess
import sys

import pytest

from rackwright.kinds.pods.mounts import CHECK

SET_UP = """set -eu
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/root/sub /mnt/srv/data/set /mnt/pods
chmod 700 /mnt/root
chown 65534 /mnt/srv/data
{change}
mount --bind /mnt/srv/data/set /mnt/pods
{later}
exec "$0" -Ic "$1" /mnt/srv/data/set /mnt/pods
"""
AS_ANOTHER = "setpriv --reuid 65534 --clear-groups "
LINK = f"rmdir /mnt/srv/data/set; {AS_ANOTHER} ln -s /mnt/root/sub /mnt/srv/data/set"
RENAMED = "mv /mnt/srv/data /mnt/srv/moved; ln -s /mnt/srv/moved /mnt/srv/data"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def checked(change: str = "", later: str = "") -> "subprocess.CompletedProcess[str]":
    script = SET_UP.format(change=change, later=later)
    argv = ["unshare", "--mount", "sh", "-c", script, sys.executable, CHECK]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_the_declared_directory_is_mounted() -> None:
    assert (done := checked()).returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "later", "reason"),
    [
        (LINK, "", "leads through the link set"),
        (RENAMED, "", "leads through the link data"),
        (LINK, "rm /mnt/srv/data/set; mkdir /mnt/srv/data/set", "shows another directory"),
        (LINK.replace("/mnt/root/sub", "../../root/sub"), "", "leads through the link set"),
        ("", "rmdir /mnt/srv/data/set 2>/dev/null || mv /mnt/srv/data/set /mnt/srv/away", "No such file"),
    ],
    ids=["a link", "a link above", "a link that was replaced", "a relative link", "a directory that was moved"],
)
def test_a_link_of_another_account_is_not_shown_to_pods(change: str, later: str, reason: str) -> None:
    done = checked(change, later)
    assert done.returncode == 1 and reason in done.stderr, done.stderr
