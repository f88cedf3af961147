"""Hosts as virtual machines: QEMU, with kernels, drives, firmware and power of their own."""
