"""Role pinned_packages, included by another role and played by the real Ansible; apt and dpkg are stand-ins."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCH = "apt-get --download-only"
DPKG = """#!/bin/sh
for name; do :; done
cat "$STUBS/have/$name" 2>/dev/null
"""
APT_GET = """#!/bin/sh
case "$*" in
*--simulate*) exit 0 ;;
*--download-only*) echo 'apt-get --download-only' >> "$STUBS/log"; [ ! -e "$STUBS/unreachable" ] || exit 100 ;;
*install*)
  echo "apt-get install ${*##*install }" >> "$STUBS/log"
  for each in ${*##*install }; do printf 'installed %s' "${each#*=}" > "$STUBS/have/${each%%=*}"; done
  ;;
esac
"""
APT_MARK = """#!/bin/sh
shift
for name; do
  if [ -e "$STUBS/held-$name" ]; then echo "$name was already set on hold."; else echo "$name set on hold."; fi
  touch "$STUBS/held-$name"
done
"""
CALLER = """
- name: Include
  ansible.builtin.include_role:
    name: pinned_packages
  vars:
    pinned_packages_set: "{{ caller_packages | dictsort }}"
    pinned_packages_before: [sh, -c, "{{ lookup('ansible.builtin.file', 'room.sh') }}"]
"""
Play = Callable[[], str]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a role that includes pinned_packages and has a script of its own; return how that ended."""
    (tmp_path / "have").mkdir()
    (tmp_path / "bin").mkdir()
    for name, text in {"dpkg-query": DPKG, "apt-get": APT_GET, "apt-mark": APT_MARK}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    for name, text in {"tasks/main.yml": CALLER, "files/room.sh": 'echo room >> "$STUBS/log"\n'}.items():
        path = tmp_path / "roles/caller" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    host = {**local, "caller_packages": {"a": "1", "b": "2:3~x"}}
    (tmp_path / "inventory.json").write_text(json.dumps({"caller": {"hosts": {"alpha": host}}}))
    environment = {
        **os.environ,
        "ANSIBLE_ROLES_PATH": f"{tmp_path / 'roles'}:{ROOT / 'roles'}",
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "STUBS": str(tmp_path),
    }
    argv = [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "inventory.json"]
    argv += [ROOT / "playbooks/role.yml", "-e", "role=caller"]

    def run() -> str:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=environment)
        recap = done.stdout.splitlines()[-2] if done.stdout else done.stderr
        assert "unreachable=0" in recap, done.stdout + done.stderr
        return "failed" if "failed=0" not in recap else "ok" if "changed=0" in recap else "changed"

    return run


def test_room_is_made_after_all_packages_are_fetched_and_before_the_first_is_installed(play: Play, tmp_path: Path):
    ended = play()

    assert ended == "changed"
    assert (tmp_path / "log").read_text().splitlines() == [FETCH, "room", "apt-get install a=1 b=2:3~x"]
    assert play() == "ok"
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_a_package_that_cannot_be_fetched_changes_nothing(play: Play, tmp_path: Path):
    (tmp_path / "unreachable").touch()

    assert play() == "failed"
    assert (tmp_path / "log").read_text().splitlines() == [FETCH]
    assert not [*tmp_path.glob("held-*")]


def test_a_package_that_nothing_holds_is_held(play: Play, tmp_path: Path):
    play()
    (tmp_path / "held-b").unlink()

    assert play() == "changed"
    assert (tmp_path / "held-b").exists()
    assert play() == "ok"
