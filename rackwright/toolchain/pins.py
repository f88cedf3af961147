"""The versions of Pulumi that rackwright takes, and the checksums that say they are the right ones.

What the Go modules weigh is pinned by the go.sum files under modules/.
"""

MINIMUM = (3, 259, 0)
"""The oldest pulumi that is taken from PATH."""

RELEASE = "v3.259.0"
"""The official release archive that is fetched: the newest whose checksums were published apart from the archive."""

RELEASE_URL = "https://github.com/pulumi/pulumi/releases/download/{version}/pulumi-{version}-{platform}.tar.gz"

RELEASE_SHA256 = {
    "linux-x64": "94ba357acac23d01474084c4b00098dc0f7bc70ce13f34c777459254a5f718e5",
    "linux-arm64": "edc8327463a72160bb36cf82cf5062da9c8a244290a706d9980988e7bf486853",
}
"""By platform, as Pulumi's own Homebrew tap gives them."""

CLI = "v3.274.1"
"""The pulumi that is built from Go modules."""

LANGUAGE_HOST = "v3.79.0"
"""The newest Python language host that is part of a Go module with versions; newer ones have a module without any."""
