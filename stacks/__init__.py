"""Example fleets, and the settings of their stacks."""
