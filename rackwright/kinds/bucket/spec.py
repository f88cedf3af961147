"""The spec of a bucket."""

from rackwright.core.contract import EndpointSource, Spec
from rackwright.core.declared import Declared
from rackwright.schema.object_store import Bucket, ListingOrder, PolicyUsers


class BucketSpec(Spec):
    """A bucket of an object store."""

    fleet: str
    """The name of the fleet, which owns the bucket."""
    store: str
    """The name of the object store."""
    name: str
    """The name of the bucket."""
    declared: Declared[Bucket]
    """The bucket as the fleet declares it."""
    region: str = "us-east-1"
    """The region of the store."""
    account: str = ""
    """The account in the names of users in policies."""
    policy_users: PolicyUsers = "arn"
    """The form of users in policies."""
    listing: ListingOrder = "by_byte"
    """The order of keys in the store's listings."""
    users: tuple[str, ...] = ()
    """Users of the store whose key the fleet has: their rights are tried."""
    encryption_key: bool = False
    """Whether the server has a key for encryption at rest."""

    @property
    def facts_source(self) -> EndpointSource:
        return EndpointSource("s3", self.store)

    @property
    def id(self) -> str:
        return f"{self.store}/{self.name}"

    @property
    def thing(self) -> str:
        return f"bucket:{self.name}"

    def thing_of(self, user: str) -> str:
        """Return the thing with the rights of *user* on the bucket."""
        return f"rights:{self.name}/{user}"
