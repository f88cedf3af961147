"""The qualification of a host before its first use: measurements on the host, compared with the catalogue's floors."""
