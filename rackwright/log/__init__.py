"""The operations log: an append-only file of signed, chained entries about each change, and its verification."""
