"""Programs that run on the host, with the standard library alone."""
