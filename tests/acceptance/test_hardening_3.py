"""A consent dies with any mount or write after it, be it in a partition; where no write shows, it is asked for."""

from tests.support.acceptance import line
from tests.support.drive_lab import CARRIES, HOST, MOUNT, consent_line, lab, on_drive, option, partition, paste, refusal
from tests.support.drive_lab import write_a_file as write
from tests.support.expect import need
from tests.support.log import Log

XFS_CUT_OFF = """mount "$part" /mnt/it
echo payroll > /mnt/it/file
xfs_io -x -c "shutdown -f" /mnt/it
umount /mnt/it"""
"""A write that has reached the log, and no superblock."""


@line("hardening", 3, part="partitions")
def test_a_consent_dies_with_a_later_mount_or_write_in_a_partition(log: Log) -> str:
    with lab(log) as twin:
        twin.start()
        for filesystem in ("ext4", "xfs"):
            log(f"{filesystem} in a partition: consent, then another one with a file")
            partition(twin, f'mkfs.{filesystem} -q {"-F" if filesystem == "ext4" else "-f"} -L scratch "$part"')
            seen = consent_line(refusal(twin))
            need(f"p1 {filesystem} " in seen and "scratch" in seen, f"it is not named: {seen}")
            need(consent_line(refusal(twin)) == seen, "nothing was written, and the line is another one")
            paste(twin, seen)
            partition(twin, f'mkfs.{filesystem} -q {"-F" if filesystem == "ext4" else "-f"} -L payroll "$part"')
            write(twin, "the only copy")
            seen = consent_line(refusal(twin))
            need("payroll" in seen, f"the other filesystem is not named: {seen}")

            log(f"{filesystem}: consent, then one more file")
            paste(twin, seen)
            write(twin, "another only copy")
            need(consent_line(refusal(twin)) != seen, "a write changed nothing of the line")
        seen = consent_line(refusal(twin))
        paste(twin, seen)
        on_drive(twin, XFS_CUT_OFF)
        need(consent_line(refusal(twin)) != seen, "a write that is in the log alone changed nothing of the line")
    return "ext4 and XFS in a partition, each written to after its consent: refused, and the image byte-equal"


@line("hardening", 3, part="luks")
def test_a_consent_without_visible_writes_is_valid_for_one_command(log: Log) -> str:
    with lab(log) as twin:
        twin.start()
        log("LUKS in a partition: the fleet's line is not enough")
        luks = 'echo secret | cryptsetup luksFormat -q --pbkdf-force-iterations 1000 --pbkdf pbkdf2 "$part"'
        partition(twin, f'wipefs -qaf "$part"\n{luks}')
        seen = option(refusal(twin))
        need("p1 crypto_LUKS " in seen and " sectors written since " in seen, f"it is not named: {seen}")
        paste(twin, seen)
        refusals = refusal(twin)
        need("a line in the fleet is not enough" in refusals, f"another reason: {refusals}")
        need(option(refusals) == seen, "nothing was written, and the consent is another one")
        on_drive(twin, 'echo secret | cryptsetup open "$part" it\nmkfs.ext4 -q /dev/mapper/it\nsync')
        on_drive(twin, "cryptsetup close it")
        refusals = refusal(twin, "--consent", f"{CARRIES}={seen}")
        need("show in no superblock" in refusals, f"another reason: {refusals}")

        log("and given up with the command")
        twin.rackwright("up", twin.stack, "--consent", f"{CARRIES}={option(refusals)}", status=0)
        need(twin.ssh(HOST, f"findmnt -no FSTYPE {MOUNT}") == "xfs", "there is no tier")
        need(not twin.differing(), "something differs after up")
    return "LUKS in a partition: the fleet's line and a consent from before a write refused, the image byte-equal"
