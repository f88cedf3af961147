"""Line 3: another model is rolled out under load and no request is lost; a bad one goes back by itself."""

from tests.accept.harness import Log, check, eventually, need
from tests.accept.served import BALANCER, HOSTS, ONE, OTHER, SERVER, Served, served, version
from tests.served import FIRST, SECOND, WRONG

CLIENTS = 16


@check("serving.3[rollout]")
def a_rollout_under_load_loses_nothing(log: Log) -> str:
    """A good version, then one that is wrong, then back by hand, each under 16 clients; then a server is killed."""
    with served(log) as lab:
        first, second, wrong = (version(lab, model) for model in (FIRST, SECOND, WRONG))
        lab.promote(f"models/{SECOND}")
        with lab.load(CLIENTS) as good:
            lab.up()
            need(lab.versions() == dict.fromkeys(HOSTS[:2], second), f"hosts serve {lab.versions()}")
        need(not good["lost"], f"the good version lost {len(good['lost'])}: {good['lost'][:3]}")
        need({*good["answered"]} == {first, second}, f"answers came from {good['answered']}")

        lab.promote(f"models/{WRONG}")
        with lab.load(CLIENTS) as bad:
            done = lab.up(status=4)
        said = done.stdout + done.stderr
        need("the canary has" in said and "release" in said and "serves again" in said, f"`up` says {said[-600:]}")
        need(not bad["lost"], f"the bad version lost {len(bad['lost'])}: {bad['lost'][:3]}")
        told = lab.status(status=1)["hosts"]
        need({each["version"] for each in told.values()} == {second}, f"hosts serve {lab.versions()}")
        need(told[ONE]["refused"]["version"] == wrong, f"status says {told[ONE]}")
        need("refused" not in told[OTHER], f"the other host was changed: {told[OTHER]}")

        lab.rackwright("server", "rollback", lab.stack, SERVER, status=0)
        lab.up()
        need(lab.status(status=0)["version"] == second, "rolled back")
        killed = _killed(lab)
        answered = sum(good["answered"].values()), sum(bad["answered"].values())
        return (
            f"{first} → {second} under {CLIENTS} clients: {answered[0]} answered, none lost; {wrong} refused on {ONE},"
            f" rolled back, {OTHER} not touched: {answered[1]} answered, none lost; {killed}"
        )


def _killed(lab: Served) -> str:
    """Kill a server under load, and return what that cost."""
    with lab.load(CLIENTS) as told:
        eventually(lambda: lab.ssh(BALANCER, "systemctl is-active clients", status=None) == "active", "clients ask")
        lab.ssh(ONE, f"systemctl kill --signal=KILL --kill-whom=main server-{SERVER}.service")
        at = float(lab.ssh(ONE, "date +%s.%N"))
        eventually(lambda: lab.status()["hosts"][ONE]["outcome"] == "ready", f"{ONE} serves again by itself", 600)
    late = [each for each in told["lost"] if each[0] > at + 10]
    need(not late, f"lost after the balancer had noticed: {late[:3]}")
    need(len(told["lost"]) <= CLIENTS, f"lost {len(told['lost'])}: {told['lost'][:3]}")
    return f"kill -9 lost {len(told['lost'])} of {sum(told['answered'].values())}, it was back by itself"
