"""The resources of the buckets that a fleet declares."""

from collections.abc import Iterator

from rackwright.kinds.bucket import BucketKind
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema.object_store import ROLE
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.stack import Stack


def buckets(stack: Stack) -> Iterator[DeclaredResource]:
    """Yield the buckets of *stack* whose store has an address, each after the hosts that run the store."""
    fleet = stack.fleet
    for name, bucket in fleet.buckets.items():
        if bucket.store not in stack.store_urls:
            continue  # a rehearsal without a stand-in; the stack has a notice
        store = fleet.object_stores[bucket.store]
        spec = BucketSpec(
            fleet=fleet.fleet,
            store=bucket.store,
            name=name,
            declared=bucket,
            region=store.region,
            account=store.account,
            policy_users=store.policy_users,
            encryption_key=store.encryption_key,
        )
        hosts = (host for host in store.hosts if host in fleet.hosts)
        yield DeclaredResource(BucketKind(), spec, after=tuple(f"{host}/{ROLE}" for host in hosts))
