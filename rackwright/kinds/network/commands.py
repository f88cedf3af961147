"""The commands that set up a network and undo that, as shell texts.

They do not use `netplan apply`, which needs udev, restarts unchanged links, and does not report its end. netplan
generates files for systemd-networkd, and systemd-networkd sets up the links whose files changed.
"""

from collections.abc import Sequence

from rackwright.core.contract import Command
from rackwright.schema.port import Nic

_FUNCTIONS = """\
port() { # the kernel's present name of the port with this MAC or PCI address
  for found in /sys/class/net/*; do
    case $1 in
      ????:??:??.?) case $(readlink -f "$found/device") in */$1|*/$1/virtio*) echo "${found##*/}"; return ;; esac ;;
      *)
        [ -e "$found/device" ] || continue
        mac=$(cat "$found/bonding_slave/perm_hwaddr" 2>/dev/null) ||
          mac=$(ip -o link show dev "${found##*/}" | sed -n 's/.* permaddr \\([0-9a-f:]*\\).*/\\1/p')
        [ -n "$mac" ] || mac=$(cat "$found/address")
        if [ "$mac" = "$1" ]; then echo "${found##*/}"; return; fi ;;
    esac
  done
}
rename() { # keeps everything but the name; kernels before 6.2 want the link down for it
  ip link set dev "$1" down
  ip link set dev "$1" name "$2"
}
delete() {
  [ ! -e "/sys/class/net/$1" ] || ip link delete dev "$1"
}
reread() { # before systemd 254, networkd forgets a VLAN only when it restarts
  if [ -n "$*" ]; then systemctl restart systemd-networkd.service; else networkctl reload; fi
}
reconfigure() {
  [ ! -e "/sys/class/net/$1" ] || networkctl reconfigure "$1"
}
settle() { # waits up to ten seconds for networkd: it never finishes a link without a signal
  end=$(($(date +%s) + 10))
  while [ "$(date +%s)" -lt "$end" ]; do
    through=$(networkctl --no-pager --no-legend list | awk -v links=" $* " \
      'index(links, " " $2 " ") && ($NF == "configured" || $NF == "unmanaged")' | wc -l)
    [ "$through" -lt $# ] || return 0
    sleep 0.25
  done
}
"""
_APPLY = """set -eu
gone=$1 ports=$2 changed=$3 all=$4 takeover=$5 devices=$6
netplan generate
if [ -n "$takeover" ] && systemctl --quiet is-enabled networking.service 2>/dev/null; then
  systemctl --quiet disable networking.service # not stopped: that would take down its interfaces
fi
new=
for device in $gone; do delete "$device"; done
for device in $devices; do [ -e "/sys/class/net/$device" ] || new="$new $device"; done
for entry in $ports; do
  now=$(port "${entry#*=}")
  [ -z "$now" ] || [ "$now" = "${entry%%=*}" ] || rename "$now" "${entry%%=*}"
done
systemctl --quiet enable systemd-networkd.service
systemctl start systemd-networkd.service
reread $gone $new
for link in $changed; do reconfigure "$link"; done
settle $all
"""
_UNDO = """
say() { printf '%s\\n' "$1"; }
cat <<'END'
FUNCTIONS
END
say 'netplan generate'
if systemctl --quiet is-enabled networking.service 2>/dev/null; then
  say 'systemctl --quiet enable networking.service'
fi
systemctl --quiet is-enabled systemd-networkd.service || say 'systemctl --quiet disable systemd-networkd.service'
for device in $devices; do # the devices that the change creates, or creates again
  case " $gone " in *" $device "*) say "delete $device" ;; esac
  [ -e "/sys/class/net/$device" ] || say "delete $device"
done
links=
for entry in $ports; do
  now=$(port "${entry#*=}")
  [ -n "$now" ] || continue
  links="$links $now"
  [ "$now" = "${entry%%=*}" ] || say "[ ! -e /sys/class/net/${entry%%=*} ] || rename ${entry%%=*} $now"
done
for device in $devices $gone; do
  [ ! -e "/sys/class/net/$device" ] || links="$links $device"
done
say "reread $devices $gone"
for link in $links; do
  say "ip address flush dev $link scope global"
  say "ip route flush dev $link proto static"
  say "ip -6 route flush dev $link proto static"
  say "ip link set dev $link mtu $(cat "/sys/class/net/$link/mtu")"
  say "reconfigure $link"
done
say "settle $links"
for link in $links; do # networkd restores only the settings that it made
  if [ $(($(cat "/sys/class/net/$link/flags") & 1)) = 1 ]; then
    say "ip link set dev $link up"
    ip -o address show dev "$link" scope global | while read -r _ _ _ address _; do
      say "ip address replace $address dev $link"
    done
    for family in -4 -6; do
      ip $family route show dev "$link" |
        sed -e '/proto kernel/d' -e '/^fe80/d' -e 's/ linkdown//' -e "s/.*/ip $family route replace & dev $link/"
    done
  else
    say "ip link set dev $link down"
  fi
done
"""


def _port_arguments(ports: Sequence[Nic]) -> str:
    return " ".join(f"{port.name}={port.key}" for port in ports)


def apply(
    to_delete: Sequence[str],
    ports: Sequence[Nic],
    changed: Sequence[str],
    links: Sequence[str],
    devices: Sequence[str],
    takeover: bool,
) -> Command:
    """Return the step in which netplan generates its files and networkd sets up the links.

    Args:
        to_delete: Devices to delete; those among *devices* are created again.
        ports: The declared ports.
        changed: Links to set up again even if their files are unchanged.
        links: All declared links.
        devices: The bonds and VLANs among *links*.
        takeover: Whether to disable ifupdown.
    """
    names = (" ".join(to_delete), _port_arguments(ports), " ".join(changed), " ".join(links))
    arguments = (*names, "yes" if takeover else "", " ".join(devices))
    text = "set up the links with netplan and systemd-networkd"
    return Command(text, ("sh", "-c", _FUNCTIONS + _APPLY, "sh", *arguments))


def undo(to_delete: Sequence[str], ports: Sequence[Nic], devices: Sequence[str]) -> str:
    """Return a shell text that prints, before a change, the commands to undo it; see rackwright.kinds.shared.guard.

    Args:
        to_delete: Devices to delete; those among *devices* are created again.
        ports: The declared ports.
        devices: The declared bonds and VLANs.
    """
    arguments = f"ports='{_port_arguments(ports)}' devices='{' '.join(devices)}' gone='{' '.join(to_delete)}'\n"
    return _FUNCTIONS + arguments + _UNDO.replace("FUNCTIONS\n", _FUNCTIONS)
