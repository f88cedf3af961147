"""Fleets, the settings of their stacks, and the Pulumi components they are built from."""
