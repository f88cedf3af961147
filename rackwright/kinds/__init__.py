"""The kinds: one package for each resource type, and the table of all of them."""
