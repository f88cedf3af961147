"""Checks of everything that needs a GPU, for any machine with one: ``python -m tests.gpu``.

A check is a function in the module of its topic, and a row in `tests.gpu.checks`. It records measured figures, and
raises `CheckFailed` where they are wrong.
"""
