"""What a preview costs: the real pulumi, program and provider over simulated hosts, in processor time."""

FLOOR_MS, AIM_MS = 60, 40
"""Of processor time, all processes together, for each host with three resources."""
