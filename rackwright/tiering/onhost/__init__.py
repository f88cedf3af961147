"""The program that moves files between a directory of a host and a store; see `rackwright.tiering.remote`."""
