"""What Python imports at the start of every process of a measured preview: notes what it took when it ends."""

import atexit
import json
import os
import resource
import sys
from pathlib import Path

write = None
if os.environ.get("BENCH_PROFILE") and "pip" not in sys.orig_argv:
    from benchmarks.hook.profiled import start

    write = start()


def note() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    line = json.dumps({"argv": sys.orig_argv, "seconds": used.ru_utime + used.ru_stime, "kib": used.ru_maxrss})
    with Path(os.environ["BENCH_USAGE"]).open("a") as file:
        file.write(f"{line}\n")
    if write:
        name = "program" if "--engine" in sys.orig_argv else "provider"
        write(Path(os.environ["BENCH_PROFILE"], f"{name}.{os.getpid()}"))


leave = os._exit


def end(status: int) -> None:
    note()
    leave(status)


atexit.register(note)
os._exit = end  # type: ignore[assignment]
