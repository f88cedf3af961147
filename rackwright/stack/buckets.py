"""The resources of the buckets that a fleet declares, and the order of the hosts of an object store."""

from collections.abc import Iterator

from rackwright.kinds.bucket import BucketKind
from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema.fleet import Fleet
from rackwright.schema.object_store import ROLE
from rackwright.schema.secret import name_of
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.stack import Stack


def store_prerequisites(stack: Stack, host: str, role: str) -> tuple[str, ...]:
    """Return the resource of the gateway that comes before *role* of *host*, a host of disks of an object store.

    Its parts do not listen until they have reached the master on the gateway.
    """
    if role != ROLE:
        return ()
    variables = {name: it.variables(ROLE) for name, it in stack.fleet.hosts.items() if ROLE in it.roles}
    gateway = variables[host].get("gateway")
    gateways = (
        name
        for name, it in variables.items()
        if gateway and it.get("address") == gateway and it.get("gateway", "") in ("", gateway)
    )
    return tuple(f"{name}/{ROLE}" for name in gateways if name != host)


def store_users(fleet: Fleet, store: str) -> dict[str, tuple[str, str]]:
    """Return access key and name of the secret with the secret key, for each user of *store* whose key *fleet* has.

    Accounts that manage buckets are left out: no policy limits them.
    """
    declared = fleet.object_stores[store]
    users = {user: (its.access_key, its.secret) for user, its in declared.users.items()}
    for host in declared.hosts:
        if host in fleet.hosts and ROLE in fleet.hosts[host].roles:
            accounts = fleet.hosts[host].variables(ROLE).get("accounts", ())
            users |= {each["name"]: (each["name"], name_of(each["key"])) for each in accounts if not each.get("admin")}
    return users


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
            listing=store.order,
            users=tuple(sorted(store_users(fleet, bucket.store))),
            encryption_key=store.encryption_key,
        )
        hosts = (host for host in store.hosts if host in fleet.hosts)
        yield DeclaredResource(BucketKind(), spec, after=tuple(f"{host}/{ROLE}" for host in hosts))
