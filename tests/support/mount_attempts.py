"""What a process of root can change at a path; run in a mount namespace of its own.

    python3 mount_attempts.py SCRIPT PATH

SCRIPT makes the mounts, and PATH is where a pod would write. Prints the names of the changes that were possible.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def attempts(path: str) -> dict[str, Callable[[], object]]:
    folder = Path(path) / "bin"
    file = folder / "tool"
    return {
        "change the group of a file": lambda: os.chown(file, -1, 4242),
        "change the group of the directory": lambda: os.chown(folder, -1, 4242),
        "let the group write": lambda: file.chmod(0o775),
        "set setgid": lambda: folder.chmod(0o2775),
        "write to a file": lambda: os.close(os.open(file, os.O_WRONLY)),
        "make a file": lambda: os.close(os.open(folder / "new", os.O_CREAT | os.O_WRONLY)),
        "make a directory": (folder / "more").mkdir,
        "put a link in its place": lambda: (folder / "link").symlink_to("/etc/shadow"),
        "rename a file": lambda: file.rename(folder / "other").rename(file),
        "set the times": lambda: os.utime(file),
        "set an attribute": lambda: os.setxattr(file, "user.x", b"y"),
        "delete a file": file.unlink,
    }


def main(script: str, path: str) -> None:
    subprocess.run(["sh", "-euc", f"mount --make-rprivate /\n{script}"], check=True)
    for name, attempt in attempts(path).items():
        try:
            attempt()
        except OSError:
            continue
        print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
