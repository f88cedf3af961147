"""What all workloads share."""
