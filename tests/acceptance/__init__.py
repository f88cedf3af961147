"""One test for each acceptance line: `make accept`, or `make accept ONLY=foundation.3`."""
