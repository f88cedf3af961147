"""Fleets, the settings of their stacks, and the Pulumi components that the program uses."""
