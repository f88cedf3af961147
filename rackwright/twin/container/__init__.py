"""Hosts as containers: systemd-nspawn, with this computer's kernel, and so at its speed. Needs root."""
