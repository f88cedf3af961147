"""Directories in buckets: moved with a manifest, verified, and restored."""
