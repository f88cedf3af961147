"""The audit: compare the declared state of a stack with the actual state of its hosts."""
