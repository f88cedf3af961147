"""Supported versions of Pulumi, and the checksums of its release archives.

The go.sum files under modules/ have the checksums of the Go modules.
"""

MINIMUM = (3, 259, 0)
"""Oldest version of pulumi that rackwright uses from PATH."""

RELEASE = "v3.259.0"
"""Version of the official release archive: the newest with checksums that are published apart from the archive."""

RELEASE_URL = "https://github.com/pulumi/pulumi/releases/download/{version}/pulumi-{version}-{platform}.tar.gz"

RELEASE_SHA256 = {
    "linux-x64": "94ba357acac23d01474084c4b00098dc0f7bc70ce13f34c777459254a5f718e5",
    "linux-arm64": "edc8327463a72160bb36cf82cf5062da9c8a244290a706d9980988e7bf486853",
}
"""Checksums of the release archive by platform. Source: Pulumi's Homebrew tap."""

CLI = "v3.274.1"
"""Version of pulumi that rackwright builds from Go modules."""

LANGUAGE_RUNTIMES = "v3.60.0"
"""Version of the language hosts in runtime/: the newest module that has both of them. Newer ones are in modules without
versions."""
