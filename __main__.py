"""The Pulumi program: the fleet of the selected stack."""

import rackwright

rackwright.run()
