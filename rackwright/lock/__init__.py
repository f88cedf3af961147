"""Packages of hosts: apt and pip resolve them, a lock pins their hashes, local repositories serve them."""
