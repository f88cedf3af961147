"""Hosts as virtual machines of QEMU, with their own kernel, drives, firmware and power."""
