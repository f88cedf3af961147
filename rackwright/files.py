"""Atomic writes: a reader sees the old content of a file or the new one, and never a part."""

from workloads.files import copy_atomic, fsync_directory, replacing, write_atomic

__all__ = ["copy_atomic", "fsync_directory", "replacing", "write_atomic"]
