"""A key that the mainboard's TPM has sealed: its boot drive never has it, and another mainboard is no way to it."""

import secrets
import shutil
from typing import Any

import yaml

from tests.support.acceptance import line
from tests.support.encrypted_lab import (
    HOST,
    PLACES,
    ask,
    is_erased,
    opens,
    project_files,
    rackwright_output,
    remove,
    watch_guest,
)
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.leaks import find_forms, forms, leaks
from tests.support.log import Log
from tests.support.tiers import Place, is_idle, places, read_file, write_file

NAME, SECRET = "hot", "hot_key"
SYNC_SECONDS = 600
SEALED, OPEN = (f"/etc/rackwright/tiers/{NAME}.{end}" for end in ("cred", "key"))
MEMORY = f"/run/rackwright/{NAME}.key"
UNIT = f"unlock-{NAME}.service"
SHUT_OUT = {
    (f"{HOST}/{NAME}", claim) for claim in (f"credential:{SEALED}", f"luks:{HOST}:{NAME}", f"mount:/srv/{NAME}")
}
"""What differs where the TPM is another one."""


def fleet() -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    drives += [{"serial": f"RW-{number}", "bus": "nvme", "size": "512MB", "tier": NAME} for number in range(2)]
    encryption = {"key": {"secret": SECRET}, "tpm2": True}
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:05", "addresses": ["10.32.0.5/24"]}],
        "tiers": {NAME: {"level": "raid1", "filesystem": "xfs", "mount": f"/srv/{NAME}", "encryption": encryption}},
    }
    return yaml.safe_dump({"fleet": "mainboard", "hosts": {HOST: host}}, sort_keys=False)


@line("storage-life", 4, part="tpm2")
def test_a_key_sealed_by_a_tpm_opens_nothing_on_another_mainboard(log: Log) -> str:
    planted = {name: f"{name}-{secrets.token_urlsafe(18)}" for name in ("first", "second", "marker")}
    with Lab(log.empty_directory() / "project", fleet(), log) as lab:
        lab.environment["PULUMI_DEBUG_COMMANDS"] = "true"
        lab.pulumi("stack", "select", "--create", status=0)
        lab.start()
        watch_guest(lab)
        lab.set_secret(SECRET, planted["first"])
        output = rackwright_output(lab, "up")
        [place] = places(lab.fleet)
        need(not (differing := lab.differing()), f"{format_claims(differing)} differ after up")
        eventually(lambda: is_idle(lab, place), "the first sync ends", SYNC_SECONDS)
        sum = write_file(lab, place)

        log("reboot")
        lab.reboot(HOST)
        watch_guest(lab)
        _lives(lab, place, sum)

        log("another key")
        lab.set_secret(SECRET, planted["second"])
        output += rackwright_output(lab, "up")
        need(opens(lab, planted["second"]) and not opens(lab, planted["first"]), "it is not the new key alone")
        shown = ask(lab, f"journalctl --no-pager; cat {PLACES} 2>/dev/null || true").encode(errors="surrogateescape")
        need(b"cryptsetup\0" in shown and b"systemd-creds\0" in shown, "nobody saw the key being sealed and used")
        lab.reboot(HOST)
        _lives(lab, place, sum)

        log("another mainboard")
        ask(lab, "cat > /root/marker; sync", planted["marker"])
        lab.down()
        keys = forms({name: planted[name] for name in ("first", "second")})
        boot = lab.twin.layout.boot_disk(HOST, "RW-BOOT")
        size = boot.stat().st_size >> 20
        need(bool(leaks(forms({"marker": planted["marker"]}), boot)), "what lies on the boot drive is not found there")
        found = [*leaks(keys, boot, lab.twin.layout.tpm(HOST), *project_files(lab))]
        found += [f"the host: {name}" for name in find_forms(shown, keys)]
        found += [f"what commands printed: {name}" for name in find_forms(output.encode(), keys)]
        need(not found, "; ".join(found[:8]))
        shutil.rmtree(lab.twin.layout.tpm(HOST))
        lab.start()
        _is_shut_out(lab)
        differing = lab.audit_differences(status=1)
        need(differing == SHUT_OUT, f"with another TPM the audit reports {format_claims(differing)}")
        output = rackwright_output(lab, "up")
        need(not (differing := lab.differing()), f"{format_claims(differing)} differ with another TPM after up")
        lab.reboot(HOST)
        _lives(lab, place, sum)

        log("without the TPM, and back to it")
        for tpm2, there, gone in ((False, OPEN, SEALED), (True, SEALED, OPEN)):
            lab.edit(lambda content: _encryption(content).update(tpm2=tpm2))  # noqa: B023
            output += rackwright_output(lab, "up")
            need(not (differing := lab.differing()), f"{format_claims(differing)} differ with tpm2: {tpm2}")
            ask(lab, f"test -e {there}; test ! -e {gone}")
            lab.reboot(HOST)
            _lives(lab, place, sum)
        need(not find_forms(output.encode(), keys), "a command says a key")

        log("removal")
        remove(lab)
        is_erased(lab, place)
        ask(lab, f"test ! -e {SEALED}; test ! -e {OPEN}; test ! -e {MEMORY}")
    nowhere = f"{len(keys)} forms of 2 keys nowhere in {size} MB of the boot drive"
    return f"{nowhere}; another TPM opened nothing until up, sum as before"


def _encryption(content: Any) -> Any:
    return content["hosts"][HOST]["tiers"][NAME]["encryption"]


def _lives(lab: Lab, place: Place, sum: str) -> None:
    """Fail unless it was opened at boot, and has what was written to it."""
    mounted = f"findmnt -no SOURCE --mountpoint {place.mount}"
    opened = f"/dev/mapper/tier-{NAME}"
    eventually(lambda: lab.ssh(HOST, mounted, None) == opened, "it is open and mounted after the boot", 180)
    need(read_file(lab, place) == sum, "data is not as it was written")
    ask(lab, f"test ! -e {MEMORY}")


def _is_shut_out(lab: Lab) -> None:
    """Fail unless it is closed, and nothing else of the boot waits or has failed for that."""
    script = f"""systemctl is-system-running --wait >/dev/null || true
        ls /dev/mapper; systemctl is-active {UNIT} multi-user.target ssh.service || true
        systemctl list-jobs --no-legend | wc -l
        systemctl list-units --failed --plain --no-legend | cut -d " " -f 1"""
    expected = ["control", "failed", "active", "active", "0", UNIT]
    need((found := lab.ssh(HOST, script).split()) == expected, f"with another TPM there is: {found}")
