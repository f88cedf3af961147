"""A fleet from a Python file that defines ``fleet() -> Fleet``."""

import importlib.util
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from rackwright.core.repository import RoleSource
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.monitoring import problems as monitoring_problems
from rackwright.fleet.monitoring import with_roles
from rackwright.fleet.problems import problems_of
from rackwright.fleet.roles import SecretCheck
from rackwright.fleet.roles import problems as role_problems
from rackwright.fleet.source import format_keys
from rackwright.schema import released
from rackwright.schema.base import models
from rackwright.schema.cluster import problems as cluster_problems
from rackwright.schema.cluster_api import TOKEN_SHORTEST
from rackwright.schema.fleet import Fleet, problems, rollout_problems
from rackwright.schema.object_store import SECRET_KEY_SHORTEST
from rackwright.schema.object_store import problems as store_problems
from rackwright.schema.problem import Keys, Problem
from rackwright.schema.run import problems as run_problems
from rackwright.schema.secret import FORMS
from rackwright.schema.server import ports_of_runs
from rackwright.schema.server import problems as server_problems
from rackwright.schema.tier_placement import problems as placement_problems


def load(
    path: Path, roles: Mapping[str, RoleSource], check_secret: SecretCheck, without: Collection[str] = ()
) -> Fleet:
    """Return the result of ``fleet()`` in the Python file *path*.

    Args:
        without: Hosts that a twin leaves out, which become retired ones.

    Raises:
        DeclarationError: the errors of the fleet, or the exception that the file raises.
    """
    if not path.is_file():
        raise _only(path, "no such file", "the file of a fleet", "Correct the name")
    try:
        module = _module(path)
        fleet = module.fleet() if hasattr(module, "fleet") else None
    except ValidationError as error:
        by_name, where = {model.__name__: model for model in models(Fleet)}, _where(path, error)
        details = problems_of(by_name.get(error.title, Fleet), error.errors(include_url=False))
        raise _all(where, (((error.title, *keys), problem) for problem, keys in details)) from None
    except Problem as problem:
        raise _all(_where(path, problem), [((), problem)]) from None
    except (Exception, SystemExit) as error:  # report any exception of the user's own code
        reason = error.msg if isinstance(error, SyntaxError) else error
        text = f"the program failed with {type(error).__name__}: {reason}"
        raise _only(_where(path, error), text, "", "Correct the program") from error
    if not isinstance(fleet, Fleet):
        text = f"fleet() returns {type(fleet).__name__}" if hasattr(module, "fleet") else "there is no function fleet"
        raise _only(path, text, "fleet() -> Fleet", "Return a Fleet from fleet()")
    fleet = fleet.model_copy(update={"hosts": released.leave_out(fleet.hosts, without)})
    wrong: list[tuple[Keys, Problem]] = [((), problem) for problem in problems(fleet.hosts)]
    wrong += [((), problem) for problem in rollout_problems(fleet.rollout, fleet.hosts)]
    wrong += [
        (("hosts", name), problem)
        for name, host in fleet.hosts.items()
        for problem in role_problems(host, roles, check_secret)
    ]
    wrong += [
        (("clusters",), problem) for problem in cluster_problems(fleet.clusters, fleet.hosts, fleet.object_stores)
    ]
    wrong += [
        (("clusters", name, "api", "token"), missing)
        for name, cluster in fleet.clusters.items()
        if cluster.api and (missing := check_secret(cluster.api.secret, TOKEN_SHORTEST, FORMS["issued"]))
    ]
    wrong += [((), problem) for problem in store_problems(fleet.object_stores, fleet.buckets, fleet.hosts)]
    wrong += [((), problem) for problem in placement_problems(fleet.placement, fleet.buckets, fleet.hosts)]
    wrong += [((), problem) for problem in monitoring_problems(fleet.monitoring, fleet.hosts, check_secret)]
    wrong += [
        (("object_stores", name, *place), missing)
        for name, store in fleet.object_stores.items()
        for place, key in store.secrets
        if (missing := check_secret(key, SECRET_KEY_SHORTEST, store.secret_form))
    ]
    wrong += [(("runs",), problem) for problem in run_problems(fleet.runs, fleet.hosts, fleet.clusters)]
    wrong += [(("servers",), problem) for problem in server_problems(fleet.servers, fleet.hosts, fleet.clusters)]
    wrong += [((), problem) for problem in released.problems(fleet, fleet.hosts, without)]
    wrong += [((), problem) for problem in released.workload_problems(fleet.runs, fleet.servers, fleet.hosts, without)]
    wrong += [((), problem) for problem in ports_of_runs(fleet.servers, fleet.runs, fleet.hosts)]
    if wrong:
        raise _all(str(path), wrong)
    return with_roles(fleet, roles)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rackwright_fleet_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # true for every file with the suffix .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # like an import, so that the fleet's own dataclasses and pickles work
    spec.loader.exec_module(module)
    return module


def _where(path: Path, error: BaseException) -> str:
    """Return *path* with its last line in the traceback of *error*."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    lines = [line for file, line in places if Path(file).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _all(where: str, problems: Iterable[tuple[Keys, Problem]]) -> DeclarationError:
    return DeclarationError(*(_error(where, (*keys, *problem.path), problem) for keys, problem in problems))


def _error(where: str, keys: Keys, problem: Problem) -> Diagnostic:
    place = f"{where}: {format_keys(keys)}" if keys else where
    return problem.at(place, format_keys(problem.also) if problem.also else "")


def _only(where: Path | str, problem: str, expected: str, help: str) -> DeclarationError:
    return DeclarationError(Diagnostic(str(where), problem, expected, help))
