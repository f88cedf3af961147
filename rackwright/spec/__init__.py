"""The declaration as strict, frozen models; no I/O. What a fleet in Python is written with."""

from rackwright.spec.fleet import Fleet
from rackwright.spec.host import Bus, Drive, Host, Identity, Nic
from rackwright.spec.ssh import Login, Ssh
from rackwright.spec.tier import Tier
from rackwright.spec.units import Size

__all__ = ["Bus", "Drive", "Fleet", "Host", "Identity", "Login", "Nic", "Size", "Ssh", "Tier"]
