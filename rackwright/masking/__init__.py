"""Masking of personal data in CSV, JSON Lines and Parquet by a policy."""

MODULE, PACKAGE = "stdnum", "python-stdnum"
"""The module with the check digits of identifiers, and the package that has it."""
