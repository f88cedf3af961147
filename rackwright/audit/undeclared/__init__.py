"""Rules for things on a host that nothing declares, and for known pitfalls that a host shows."""
