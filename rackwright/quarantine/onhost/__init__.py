"""Programs that run on the monitoring host, with the standard library alone."""
