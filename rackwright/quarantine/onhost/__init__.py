"""Programs that run on hosts, with the standard library alone."""
