"""The views of the directories and certificates of the services that roles install."""

from rackwright.facts.view import Fact, View, texts


class StateDirectoryFacts(View):
    """A directory that a service writes to."""

    mode = Fact(str, "Four octal digits; `link` for a link in its place.")
    owner = Fact(str, "user:group by name.")
    access_list = Fact(bool, "Whether it has an access control list.")
    open = Fact(texts, "Names in it that another account may change.")


class ServiceCertificateFacts(View):
    """The certificate of a service."""

    names = Fact(texts, "DNS names and IP addresses for which it is valid.")
    not_after = Fact(int, "End, in seconds since 1970.")
    has_key = Fact(bool, "Whether the key beside it belongs to it.")
