"""Views of the devices and images that containers on a host can use."""

from rackwright.facts.view import Fact, View, texts


class CdiSpecification(View):
    """A CDI specification: a file that describes the devices of one kind that containers may use."""

    path = Fact(str, "Path of the file.")
    kind = Fact(str, "``nvidia.com/gpu``.")
    devices = Fact(texts, "Device names as containers request them, without the kind.")
    missing_files = Fact(texts, "Files that it mounts into containers and that the host does not have.")
    missing_devices = Fact(
        texts, "Device nodes that the host does not have; ``/dev/char/195:0`` for a node that lacks this name."
    )


class ImageFacts(View):
    """A container image in the store of an engine."""

    names = Fact(texts, "``registry.example/name:tag``; empty for an image that served only as a build stage.")
    digests = Fact(texts, "``sha256:…`` of its manifest, and of the manifest list that it came from.")

    def matches(self, reference: str) -> bool:
        """Return whether *reference* means this image: by digest if *reference* has one, otherwise by name."""
        _, _, digest = reference.partition("@")
        return digest in self.digests if digest else reference in self.names


class HostContainers(View):
    """The devices and images for the containers of a host."""

    def cdi(self, kind: str) -> tuple[CdiSpecification, ...]:
        """Return the CDI specifications for devices of this kind; unknown if the kind of any one is unknown."""
        specifications = self.rows("cdi", CdiSpecification, "path")
        return tuple(specification for specification in specifications if specification.kind == kind)

    def images(self, engine: str) -> tuple[ImageFacts, ...]:
        """Return the images of an engine, podman or containerd."""
        return View(self.read("images"), "facts.images").rows(engine, ImageFacts)
