"""Runs on hosts, on Python 3.8 or later and its standard library: what is measured there without anybody's tool."""
