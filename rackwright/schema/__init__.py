"""The models of a declaration, strict and frozen, from which fleets in Python are built; no I/O."""

from rackwright.schema.alerts import Alerts
from rackwright.schema.fleet import Fleet
from rackwright.schema.health import Health
from rackwright.schema.host import Drive, Host, Identity
from rackwright.schema.mirror import Mirror
from rackwright.schema.needs import Needs
from rackwright.schema.network import Bond, Dns, Network, Route, Vlan
from rackwright.schema.object_store import Bucket, Credentials, Expiry, ObjectStore, Retention
from rackwright.schema.port import Nic
from rackwright.schema.profile import Bus, DriveClass, HardwareProfile
from rackwright.schema.ssh import Login, Ssh
from rackwright.schema.tier import Encryption, Scrub, Tier
from rackwright.schema.tier_costs import Costs, TierCost
from rackwright.schema.units import Size

__all__ = [
    "Alerts",
    "Bond",
    "Bucket",
    "Bus",
    "Costs",
    "Credentials",
    "Dns",
    "Drive",
    "DriveClass",
    "Encryption",
    "Expiry",
    "Fleet",
    "HardwareProfile",
    "Health",
    "Host",
    "Identity",
    "Login",
    "Mirror",
    "Needs",
    "Network",
    "Nic",
    "ObjectStore",
    "Retention",
    "Route",
    "Scrub",
    "Size",
    "Ssh",
    "Tier",
    "TierCost",
    "Vlan",
]
