"""What a host has to show before anything runs on it: measured there, held against the catalogue's floors."""
