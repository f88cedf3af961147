"""What containers are given, as the probe saw it."""

from rackwright.facts.view import Fact, View, texts


class CdiSpecification(View):
    """A file that says what of a sort of devices containers may be given."""

    path = Fact(str)
    kind = Fact(str, "``nvidia.com/gpu``.")
    devices = Fact(texts, "The names that containers ask for, without the kind.")
    missing_files = Fact(texts, "What it would put into a container and is not on the host.")
    missing_devices = Fact(texts, "Nodes that are not there, and ``/dev/char/195:0`` for those that lack that name.")


class Image(View):
    """An image that an engine has."""

    names = Fact(texts, "``registry.example/name:tag``; none where it was only built from.")
    digests = Fact(texts, "``sha256:…`` of its manifest, and of the list that it was taken from.")

    def goes_by(self, reference: str) -> bool:
        """Return whether it is what *reference* asks for: by its digest where it has one, else by its name."""
        _, _, digest = reference.partition("@")
        return digest in self.digests if digest else reference in self.names
