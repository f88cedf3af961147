"""Entries of received journals, newest first, read by the account that stores them.

It runs on the host alone, on its standard library: ``python3 - DIRECTORY SINCE LINES BYTES UNIT HOST...`` with this
text on standard input; SINCE is in seconds since 1970, and an empty UNIT stands for all. Each line of the output is for
one host, which the directory names and no entry: ``entry HOST JSON``, ``cut HOST`` after BYTES of one host, or
``failed HOST REASON``.
"""

import os
import subprocess
import sys
from pathlib import Path

JOURNALCTL = "/usr/bin/journalctl"
SETPRIV = "/usr/bin/setpriv"
FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT"
SECONDS = 60


def main() -> None:
    directory, since, lines, bound, unit, *hosts = sys.argv[1:]
    for host in hosts:
        try:
            show(host, Path(directory, host), since, lines, int(bound), unit)
        except OSError as error:
            sys.stdout.write(f"failed {host} {error.strerror}\n")


def show(host: str, place: Path, since: str, lines: str, bound: int, unit: str) -> None:
    account = place.stat()
    argv = [JOURNALCTL, f"--directory={place}", "--quiet", "--no-pager", "--output=json", f"--output-fields={FIELDS}"]
    argv += [f"--since=@{since}", f"--lines={lines}", "--reverse", *([f"--unit={unit}"] if unit else [])]
    # the texts are those of another host: journalctl reads them without the rights of root
    account_argv = [SETPRIV, f"--reuid={account.st_uid}", f"--regid={account.st_gid}", "--clear-groups"]
    argv = ["/usr/bin/timeout", f"{SECONDS}", *(account_argv if os.geteuid() == 0 else ()), *argv]
    environment = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
    ) as process:
        assert process.stdout is not None
        content = process.stdout.read(bound)
        if process.stdout.read(1):
            process.kill()
            content = content[: content.rfind(b"\n") + 1]
            sys.stdout.write(f"cut {host}\n")
        elif process.wait():
            sys.stdout.write(f"failed {host} journalctl ended with status {process.returncode}\n")
    for line in content.decode(errors="replace").split("\n"):
        if line:
            sys.stdout.write(f"entry {host} {line}\n")


main()
