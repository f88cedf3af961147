"""The declaration as strict, frozen models; no I/O. What a fleet in Python is written with."""

from rackwright.spec.alerts import Alerts
from rackwright.spec.fleet import Fleet
from rackwright.spec.health import Health
from rackwright.spec.host import Bus, Drive, Host, Identity
from rackwright.spec.mirror import Mirror
from rackwright.spec.needs import Needs
from rackwright.spec.network import Bond, Dns, Network, Route, Vlan
from rackwright.spec.port import Nic
from rackwright.spec.ssh import Login, Ssh
from rackwright.spec.tier import Encryption, Scrub, Tier
from rackwright.spec.units import Size

__all__ = [
    "Alerts",
    "Bond",
    "Bus",
    "Dns",
    "Drive",
    "Encryption",
    "Fleet",
    "Health",
    "Host",
    "Identity",
    "Login",
    "Mirror",
    "Needs",
    "Network",
    "Nic",
    "Route",
    "Scrub",
    "Size",
    "Ssh",
    "Tier",
    "Vlan",
]
