"""Masking of personal data in CSV, JSON Lines and Parquet by a policy."""
