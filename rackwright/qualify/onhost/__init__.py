"""Measuring programs that run on hosts, on Python 3.8 or later and its standard library, without other tools."""
