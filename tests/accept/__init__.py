"""Every promise checked on the real thing: `make accept`, or `make accept ONLY=foundation.3`."""
