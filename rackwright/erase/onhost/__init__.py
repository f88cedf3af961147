"""Runs on hosts, on Python 3.8 or later and its standard library, with the modules by which the probe reads drives."""
