"""Hosts as containers of systemd-nspawn, which share this computer's kernel and speed. Root starts them."""
