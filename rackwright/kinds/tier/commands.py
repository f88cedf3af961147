"""Commands of a tier that need more than one program: short shell scripts, with values as arguments."""

from collections.abc import Iterable

from rackwright.schema.tier import FilesystemType

EXT4_BLOCK_BYTES = 4096

DRIVES = "rackwright-drives"
"""First argument of a step that rackwright.hosts.onhost.on_drives does on the host, in place of a program."""

_FORGET = """mdadm --quiet "$1" --fail detached --remove detached || true
mdadm --quiet "$1" --remove failed || true
"""

_LET_GO = """set -eu
mdadm --quiet "$1" --remove failed || true
grep -qx 0 "/sys/class/block/${1##*/}/md/degraded" || { echo "$1 misses a member, and nothing is erased" >&2; exit 1; }
uuid=$2 status=0; shift 2
for old; do # empty where the drive is gone
  [ -n "$old" ] && mdadm --examine --export "$old" | grep -qx "MD_UUID=$uuid" || continue
  mdadm --quiet --zero-superblock "$old" || status=1
done
exit $status
"""

_DISMISS = """set -eu
mdadm --quiet --manage "$1" --remove "$2"
mdadm --quiet --zero-superblock "$2"
"""

_CONTINUE = """set -eu
md=/sys/class/block/${1##*/}/md
mdadm --quiet --readwrite "$1" || true # before its first write an array waits with its reshape as well
tries=0
until grep -qsx -e "${1##*/}_resync" -e "${1##*/}_reshape" /proc/[0-9]*/comm || grep -qx none "$md/reshape_position"; do
  [ $((tries += 1)) -ne 25 ] || mdadm --grow --continue "$1"
  [ $tries -le 50 ] || { echo "md does not go on with the reshape of $1" >&2; exit 1; }
  sleep 0.2
done
blockdev --flushbufs "$1" # what was read before that was somewhere else
udevadm trigger --action=change --settle "$1"
"""

_MOUNT = """udevadm trigger --action=change --settle "$1" # what udev saw of it may be older than what is on it
exec systemctl start "$2"
"""

_CAP = """echo "$2" > "/sys/class/block/${1##*/}/md/sync_speed_max"
"""

_CLEAR_SYNC_LIMIT = """echo max > "/sys/class/block/${1##*/}/md/sync_max"
"""
_CLEAR_MEMBER_FLAGS = """for state in "/sys/class/block/${1##*/}/md/dev-"*/state; do
  for word in write_mostly:-writemostly failfast:-failfast blocked:-blocked; do
    ! tr , '\\n' < "$state" | grep -qx "${word%%:*}" || echo "${word#*:}" > "$state"
  done
done
"""

_WAIT = """md=/sys/class/block/${1##*/}/md
while ! grep -qx idle "$md/sync_action"; do
  read -r done _ all < "$md/sync_completed"
  speed=$(grep -x '[1-9][0-9]*' "$md/sync_speed" || echo 0)
  if [ "${all:-0}" -gt 0 ]; then
    left=
    [ "$speed" -eq 0 ] || left=", $(((all - done) / 2 / speed / 60 + 1)) min left"
    echo "$((100 * done / all)) %$left"
  fi
  sleep 5
done
"""


_KEY = """set -eu
export SYSTEMD_LOG_LEVEL=err # not the warning that its PCR enforces nothing
held() { # what is in the file of a key; never an argument, and of one that is sealed never a file
  case $1 in
  *.cred | *.cred.new) sealed=${1##*/}; value=$(systemd-creds decrypt --name="${sealed%.new}" "$1" - && echo .) ;;
  *) value=$(cat "$1" && echo .) ;; # the point keeps the ends of lines
  esac || return 1
  value=${value%.}
}
"""

_OPENS = f"""{_KEY}
device=$1 key=$2 name=$3
tried() {{ printf %s "$value" | cryptsetup open --test-passphrase --type luks2 --key-file - "$@" "$device"; }}
opens() {{ held "$1" && tried; }}
no_key() {{
  echo "$1 the LUKS header of $name, and no key slot was changed:" \
    "give the secret the value that it had, or put a copy of the header back from the time of that key" >&2
  exit 1
}}
"""

_UNMEASURED_PCR = 16
"""A PCR into which no step of a boot measures. systemd 252 seals a key that is bound to no PCR, and cannot open it."""

_SEAL = f"""{_KEY}
key=$1 target=$2
trap 'rm -f "$key"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "${{target%/*}}"
umask 077
name=${{target##*/}} && name=${{name%.new}}
rm -f "$target"
systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs={_UNMEASURED_PCR} --name="$name" "$key" "$target"
chmod 0600 "$target"
sync "$target"
held "$target" && printf %s "$value" | cmp -s - "$key" || {{
  rm -f "$target"
  echo "the TPM does not open what it has sealed" >&2
  exit 1
}}
"""

_ENCRYPT = f"""{_KEY}
held "$2"
[ ! -e "/dev/mapper/$3" ] || cryptsetup close "$3" # of an earlier run that was cut off
printf %s "$value" | cryptsetup luksFormat --batch-mode --type luks2 --key-file - "$1"
"""

_OPEN = f"""{_OPENS}
systemctl restart "$4" && exit # it may count as started, and be closed
opens "$key" || no_key "$key does not open"
exit 1
"""

_CLOSE = """systemctl stop "$2" || true
[ ! -e "/dev/mapper/$1" ] || exec cryptsetup close "$1"
"""

_CHANGE_KEY = f"""{_OPENS}
shift 3
if ! opens "$key.new"; then
  held "$key.new"
  new=$value found=
  for old; do
    if opens "$old"; then
      found=yes
      break
    fi
  done
  if [ -z "$found" ]; then
    rm -f "$key.new"
    no_key "neither $old nor the declared secret opens"
  fi
  printf %s "$new" | {{
    exec 3<&0
    printf %s "$value" | cryptsetup luksAddKey --batch-mode --key-file - "$device" /dev/fd/3
  }}
  opens "$key.new"
fi
mv "$key.new" "$key"
sync -f "$key" # before the slot of the old one goes
"""

_SINGLE_KEY = f"""{_OPENS}
held "$key" || no_key "$key does not open"
slot=$(tried --verbose | sed -n 's/^Key slot \\([0-9]*\\) unlocked.*/\\1/p')
[ -n "$slot" ] || no_key "$key does not open"
cryptsetup luksDump "$device" | sed -n 's/^  \\([0-9]*\\): luks2$/\\1/p' | while read -r other; do
  [ "$other" = "$slot" ] || printf %s "$value" | cryptsetup luksKillSlot --batch-mode --key-file - "$device" "$other"
done
rm -f "$key.new"
"""

_COPY_HEADER = f"""{_OPENS}
opens "$key" || no_key "$key does not open" # a header that was put back may be of another key's time
umask 077
rm -f "$4.new"
cryptsetup luksHeaderBackup --batch-mode --header-backup-file "$4.new" "$device"
chmod 0600 "$4.new"
sync "$4.new"
mv "$4.new" "$4"
"""

_GROW_MAPPING = f"""{_KEY}
held "$2"
printf %s "$value" | cryptsetup resize --key-file - "$1"
shift 2
exec "$@"
"""

_WRITE_SUPERBLOCKS = """set -eu
md=/sys/class/block/${1##*/}/md
for member in "$md"/dev-*; do # to say of a member what is so makes md write all superblocks; Source: md.c, state_store
  case $(cat "$member/state") in
  *faulty*) ;;
  *failfast*) echo failfast > "$member/state" ;;
  *) echo -failfast > "$member/state" ;;
  esac
done
bitmaps=whole
for member in "$md"/dev-*; do
  case $(cat "$member/state") in *faulty*) continue ;; esac
  device=/dev/$(echo "${member##*/dev-}" | tr ! /)
  mdadm --examine --export "$device" | grep -qx "MD_UUID=$2" || {
    echo "md has not written the superblock of $device: before Linux 5.17 it does so at the next write to the array" >&2
    exit 1
  }
  [ "$3" != internal ] || mdadm --examine-bitmap "$device" 2>/dev/null | grep -q "Magic : 6d746962" || bitmaps=lost
done
[ $bitmaps = whole ] || { mdadm --quiet --grow "$1" --bitmap=none && mdadm --quiet --grow "$1" --bitmap=internal; }
"""

_ENLARGE = """set -eu
device=$1 kib=$2
shift 2
mdadm --quiet "$device" --remove failed || true # one that was copied counts, as small as it is, while it is listed
mdadm --grow "$device" --size="$kib"
exec "$@"
"""


def _shell(text: str, *arguments: str) -> tuple[str, ...]:
    return ("sh", "-c", text, "sh", *arguments)


def make_filesystem(
    type: FilesystemType, device: str, stripe_kib: int, data_drives: int, small: bool
) -> tuple[str, ...]:
    """Make a filesystem aligned to the array's stripes; mkfs.xfs itself ignores those of small arrays.

    Args:
        small: True below 1 GiB. The log of XFS has 64 MiB at least and lies in one of its allocation groups, of
            which mkfs.xfs 6.1 makes too many, too small ones, below 560 MiB.
    """
    if type == "xfs":
        aligned = [f"su={stripe_kib}k,sw={data_drives}"] if stripe_kib else []
        groups = ["agcount=2"] if small else []
        data = ("-d", ",".join((*aligned, *groups))) if aligned or groups else ()
        return ("mkfs.xfs", "-q", "-f", *data, device)
    blocks = stripe_kib // (EXT4_BLOCK_BYTES // 1024)
    stride = ("-E", f"stride={blocks},stripe_width={blocks * data_drives}") if blocks else ()
    return ("mkfs.ext4", "-q", "-F", "-b", str(EXT4_BLOCK_BYTES), *stride, device)


def wipe(serial: str) -> tuple[str, ...]:
    """Clear both ends of a drive and of its partitions, and every other signature; stop idle md arrays that hold it.

    Each write clears whole parts of ``Drive.content``, so that a wipe that is cut off leaves nothing else than before.
    A filesystem signature deeper inside may come back in a new array of the same geometry, so mkfs always runs there.
    """
    return (DRIVES, "wipe", serial)


def erase_member(serial: str, array_uuid: str) -> tuple[str, ...]:
    """Erase the signatures on a drive, the md superblock last, if that still belongs to *array_uuid*."""
    return (DRIVES, "erase-member", serial, array_uuid)


def forget(array: str) -> tuple[str, ...]:
    """Remove absent and failed members from the array's list, so that they can be added again."""
    return _shell(_FORGET, array)


def let_go(array: str, array_uuid: str, drives: Iterable[str]) -> tuple[str, ...]:
    """Remove failed members from a whole array's list, and erase the md superblocks of *drives* that name this array.

    With its superblock md may take such a drive in again when the host starts, as a spare. mdadm erases no superblock
    of a drive that is still in use, as after a copy that failed.

    Args:
        drives: Paths, empty for drives that are not in the machine.
    """
    return _shell(_LET_GO, array, array_uuid, *drives)


def dismiss(array: str, drive: str) -> tuple[str, ...]:
    """Remove a waiting spare from the array, and erase its md superblock, its only content."""
    return _shell(_DISMISS, array, drive)


def waiting_unit(verb: str, key: str) -> str:
    """Return the unit that completes *verb*, such as ``replace``, on the array known by *key*, once md rests."""
    return f"rackwright-{verb}-{key.replace(':', '-')}"


def continue_reshape(array: str) -> tuple[str, ...]:
    """Go on with a reshape that was cut off."""
    return _shell(_CONTINUE, array)


def mount(array: str, unit: str) -> tuple[str, ...]:
    """Mount the filesystem of an array that existed before."""
    return _shell(_MOUNT, array, unit)


def grow_filesystem(type: FilesystemType, array: str, mount: str) -> tuple[str, ...]:
    """Grow a mounted filesystem to all of its device."""
    return ("xfs_growfs", mount) if type == "xfs" else ("resize2fs", array)


def enlarge(array: str, member_kib: int, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Enlarge an array that rests to *member_kib* of each member, and then run *argv*."""
    return _shell(_ENLARGE, array, str(member_kib), *argv)


def seal(key: str, sealed: str) -> tuple[str, ...]:
    """Seal the content of *key* with the TPM, and remove that file in any case."""
    return _shell(_SEAL, key, sealed)


def encrypt(array: str, key: str, mapping: str) -> tuple[str, ...]:
    """Make a LUKS2 header; the content of the array is lost."""
    return _shell(_ENCRYPT, array, key, mapping)


def open_mapping(array: str, key: str, name: str, unit: str) -> tuple[str, ...]:
    """Start *unit*, which opens an encrypted array; an error says whether the key is the reason."""
    return _shell(_OPEN, array, key, name, unit)


def close_mapping(mapping: str, unit: str) -> tuple[str, ...]:
    return _shell(_CLOSE, mapping, unit)


def change_key(array: str, key: str, name: str, *before: str) -> tuple[str, ...]:
    """Add the key in ``key.new`` to the LUKS header, and move it to *key*.

    Nothing changes if no known key opens the header.

    Args:
        before: Other files that may have the present key.
    """
    return _shell(_CHANGE_KEY, array, key, name, key, *before)


def single_key(array: str, key: str, name: str) -> tuple[str, ...]:
    """Remove every key slot except the one that *key* opens."""
    return _shell(_SINGLE_KEY, array, key, name)


def copy_header(array: str, key: str, name: str, path: str) -> tuple[str, ...]:
    """Copy the LUKS header to *path*, if *key* opens the header."""
    return _shell(_COPY_HEADER, array, key, name, path)


def grow_mapping(mapping: str, key: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Grow a mapping to all of its array, and then run *argv*."""
    return _shell(_GROW_MAPPING, mapping, key, *argv)


def write_superblocks(array: str, array_uuid: str, bitmap: str) -> tuple[str, ...]:
    """Make md write the superblocks of a running array on all members, and its bitmap where a member has lost that."""
    return _shell(_WRITE_SUPERBLOCKS, array, array_uuid, bitmap)


def cap(array: str, kib_per_second: int) -> tuple[str, ...]:
    return _shell(_CAP, array, str(kib_per_second))


def clear_sync_limit(array: str) -> tuple[str, ...]:
    """Return the command after which a sync or check goes to the end of the array."""
    return _shell(_CLEAR_SYNC_LIMIT, array)


def clear_member_flags(array: str) -> tuple[str, ...]:
    """Return the command after which md uses each member as it does by default."""
    return _shell(_CLEAR_MEMBER_FLAGS, array)


def wait_for_sync(array: str) -> tuple[str, ...]:
    """Wait until md is idle; `mdadm --wait` ends with an error when there is nothing to wait for."""
    return _shell(_WAIT, array)
