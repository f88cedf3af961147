"""Data that arrives on a drive between the plan and a step, or during it, stops the step before its first byte."""

from tests.support.acceptance import line
from tests.support.drive_lab import CARRIES, HOST, consent_line, lab, on_drive, partition, paste, refusal
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

OWNER = "/var/lib/rackwright/owners/tier-hot.json"
"""Written by the first step: the plan is made by then, and nothing has looked at the drive since."""
WRITE = 'mount $part /mnt/it\necho "the only copy" > /mnt/it/file'


def _as_soon_as(lab: Lab, condition: str, script: str) -> None:
    """Let the guest do *script* as soon as *condition* holds."""
    text = f"until {condition}; do sleep 0.05; done\n{script}\nsync\ntouch /run/it-is-done"
    on_drive(
        lab,
        f"rm -f /run/it-is-done {OWNER}\ncat > /run/once.sh <<END\nset -eux\n{text}\nEND\n"
        "systemd-run --quiet --collect --unit=once sh /run/once.sh",
    )


def _stopped(lab: Lab, *reasons: str) -> None:
    """Run up, which has to fail in a step for one of *reasons*, after the guest has done its part."""
    done = lab.up(status=4)
    output = done.stdout + done.stderr
    need(any(reason in output for reason in reasons), f"another reason: {output[-600:]}")
    lab.ssh(HOST, "[ -e /run/it-is-done ]")


def _is_kept(lab: Lab) -> None:
    """Fail unless the filesystem in the partition is whole, and its file there."""
    script = 'fsck.ext4 -fn "$part" >&2\nmount -o ro "$part" /mnt/it\ncat /mnt/it/file\numount /mnt/it'
    need("the only copy" in on_drive(lab, script), "the file is not there")


@line("hardening", 11)
def test_data_written_after_the_plan_stops_the_step(log: Log) -> str:
    with lab(log) as twin:
        twin.start()
        partition(twin, 'mkfs.ext4 -qF -L payroll "$part"')
        paste(twin, consent_line(refusal(twin)))

        log("mounted and written to after the plan")
        _as_soon_as(twin, f"[ -e {OWNER} ]", WRITE)
        _stopped(twin, f"drive {CARRIES} is in use by /mnt/it; nothing was written")
        twin.ssh(HOST, "grep -q 'the only copy' /mnt/it/file; umount /mnt/it")
        _is_kept(twin)

        log("written to after the plan, and unmounted again")
        paste(twin, consent_line(refusal(twin)))
        _as_soon_as(twin, f"[ -e {OWNER} ]", f"{WRITE}\numount /mnt/it")
        _stopped(twin, "and the plan was made for", f"drive {CARRIES} is in use")
        _is_kept(twin)

        log("something new after the wipe, before the array is made")
        paste(twin, consent_line(refusal(twin)))
        _as_soon_as(twin, f"[ -e {OWNER} ] && [ ! -e $part ]", "mkfs.ext4 -qF -L new $dev")
        _stopped(twin, "holds ext4", "still has ext4", f"drive {CARRIES} is in use")
        on_drive(twin, 'fsck.ext4 -fn "$dev" >&2\n[ "$(blkid -o value -s LABEL "$dev")" = new ]')
        need("ext4" in consent_line(refusal(twin)), "it is not named")
    return "mounted, written to, and made anew between plan and step: each refused, and the data whole"
