"""Verdicts about hosts: their signed chain, and the hosts in quarantine."""
