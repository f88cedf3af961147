"""Objects of Kubernetes are replaced though a controller writes their status meanwhile."""

import os
import subprocess

import pytest

from rackwright.kinds.cluster.replace import REPLACE

CONFLICT = 'Error from server (Conflict): error when replacing "x": the object has been modified'
KUBECTL = """\
#!/bin/sh
echo "$@" >> "$PLACE/calls"
[ "$(wc -l < "$PLACE/calls")" -gt "$FAILURES" ] || { echo "$MESSAGE" >&2; exit 1; }
echo replaced
"""


def replaced(place, failures, message):
    for name, text in (("kubectl", KUBECTL), ("sleep", "#!/bin/sh\n")):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    variables = {"PATH": f"{place}:{os.environ['PATH']}", "PLACE": str(place)}
    done = subprocess.run(
        ["sh", "-c", f'set -eu\n{REPLACE}replace "$1" --field-manager=rackwright', "sh", "objects.json"],
        env={**variables, "FAILURES": str(failures), "MESSAGE": message},
        capture_output=True,
        text=True,
    )
    return done, (place / "calls").read_text().splitlines()


def test_a_conflict_is_tried_again(tmp_path):
    done, calls = replaced(tmp_path, 2, CONFLICT)

    assert (done.returncode, done.stdout, done.stderr) == (0, "replaced\n", "")
    assert calls == ["replace -f objects.json --field-manager=rackwright"] * 3


@pytest.mark.parametrize(("message", "count"), [(CONFLICT, 10), ("Error from server (Forbidden): no", 1)])
def test_another_error_and_an_endless_conflict_are_printed(tmp_path, message, count):
    done, calls = replaced(tmp_path, 99, message)

    assert (done.returncode, done.stderr, len(calls)) == (1, f"{message}\n", count)
