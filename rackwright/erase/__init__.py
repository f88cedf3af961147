"""Drives that leave the rack: erased by word, read back, and certified."""
