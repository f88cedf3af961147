"""Kubernetes built from Go modules, as Debian packages: for hosts and computers without the vendor's repository."""
