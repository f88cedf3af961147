"""API keys and their scopes. A key is long and random, so that its plain digest reveals nothing.

    python -m workloads.serving.keys NAME --scopes infer,read      print a new key once, and the line for the file

A file of keys is a JSON list of {"name": …, "sha256": …, "scopes": […]}. An entry may have the quotas
requests_per_minute, tokens_per_minute and tokens_per_day: options of the same names write them.
"""

import hashlib
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError, print_error
from workloads.serving.model import StrictModel

QUOTAS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day")
"""The fields of a key that are quotas."""
Scope = Literal["infer", "read", "metrics", "exchange"]
"""Run inference; read metadata; read metrics; lead prompts' caches from one server to another."""


class Key(StrictModel):
    name: str = Field(min_length=1)
    """The key's owner, as the log names it."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    requests_per_minute: PositiveInt | None = None
    """The most requests for inference in a minute; None: no limit."""
    tokens_per_minute: PositiveInt | None = None
    """Tokens of prompts and answers in a minute, after which a further request waits; None: no limit."""
    tokens_per_day: PositiveInt | None = None
    """Tokens of prompts and answers in a day in UTC; None: no limit."""


class Keys:
    """The API keys of a server. Without keys, every client may do everything."""

    def __init__(self, keys: Sequence[Key] | None) -> None:
        self._keys = None if keys is None else {key.sha256: key for key in keys}

    @property
    def are_required(self) -> bool:
        return self._keys is not None

    def find(self, authorization: str, api_key: str = "") -> Key | None:
        """Return the key in the header *authorization* (``Bearer KEY``), or None if the server does not have it.

        Args:
            api_key: The header in which Anthropic's clients send their key, if there is one.

        The lookup is by digest: its duration reveals nothing about a key.
        """
        scheme, _, token = authorization.partition(" ")
        if self._keys is None:
            return None
        if scheme.lower() == "bearer":
            return self._keys.get(_digest(token.strip()))
        return self._keys.get(_digest(api_key)) if api_key else None


def read(path: Path) -> Keys:
    """Return the keys in the file *path*.

    Raises:
        UserError: the file cannot be read, or has one key twice.
    """
    try:
        keys = TypeAdapter(tuple[Key, ...]).validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            Diagnostic(str(path), f"the file cannot be read: {error.strerror}", help="Correct the path")
        ) from error
    except ValidationError as error:  # pydantic's full text would print the content
        wrong = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'as a whole'}: {p['msg']}" for p in error.errors())
        problem = f"the file is not a list of keys: {wrong}"
        help = "Build the file from lines that `python -m workloads.serving.keys` prints"
        raise UserError(Diagnostic(str(path), problem, "a JSON list of keys", help)) from None
    if len({key.sha256 for key in keys}) < len(keys):
        problem = "the file has a key twice"
        raise UserError(Diagnostic(str(path), problem, "one name for each key", "Remove one of the two"))
    return Keys(keys)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.keys", __doc__)
    parser.add_argument("name", help="the key's owner, for the log")
    parser.add_argument(
        "--scopes", default="infer,read", help=f"a list of {', '.join(get_args(Scope))}; infer,read by default"
    )
    for quota in QUOTAS:
        parser.add_argument(f"--{quota.replace('_', '-')}", type=int, metavar="N", help="quota; unlimited by default")
    args = parser.parse_args(argv)
    scopes = args.scopes.split(",")
    if wrong := [scope for scope in scopes if scope not in get_args(Scope)]:
        problem, expected = f"no such scope, {', '.join(wrong)}", f"some of {', '.join(get_args(Scope))}"
        print_error(Diagnostic("--scopes", problem, expected, "Correct --scopes"))
        return 2
    quotas = {quota: value for quota in QUOTAS if (value := getattr(args, quota)) is not None}
    if too_small := [quota for quota, value in quotas.items() if value < 1]:
        option = f"--{too_small[0].replace('_', '-')}"
        print_error(Diagnostic(option, f"got {quotas[too_small[0]]}", "a number above 0", f"Correct {option}"))
        return 2
    token = secrets.token_urlsafe(32)
    print(f"key, shown this once: {token}", file=sys.stderr)
    print(json.dumps({"name": args.name, "sha256": _digest(token), "scopes": scopes, **quotas}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
