"""The eraser, which runs on hosts, on Python 3.8 or later and its standard library, with the probe's drive modules."""
