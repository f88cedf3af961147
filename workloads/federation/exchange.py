"""Requests and answers as files, which any means may carry between institutions.

Arrays are the bytes of their float32 values, in the order of the model's names. Their reader knows names and shapes
from its own recipe, so that a file has one possible length, and nothing in it is parsed.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from workloads.config_schema import ConfigSchema
from workloads.errors import Diagnostic, UserError
from workloads.federation import signatures
from workloads.federation.coordinator_state import FILE, CoordinatorState
from workloads.federation.messages import RoundReply, RoundRequest, Statement, parse, read_content, read_message
from workloads.federation.round_folders import REPLY, REQUEST, SIGNATURE, STATEMENT
from workloads.federation.shared_folders import SharedPath
from workloads.federation.weights import Weights, digest

MODEL, UPDATE = "model.f32", "update.f32"
NAMESPACE = "rackwright-federation-reply"
"""Purpose of the signatures of answers."""
REPLY_BYTES_MAX = 16 << 10


def publish_request(directory: SharedPath, request: RoundRequest, model: Weights) -> list[str]:
    """Write *request* with *model* to *directory*; the request comes last, so that it is never without its model.

    Returns:
        The names of files that others had put there, or changed.

    Raises:
        UserError: A file cannot be written.
    """
    place = directory / STATEMENT
    try:
        removed = place.remove()
    except OSError as error:
        raise _unwritable(place, error) from None
    files = ((MODEL, array_bytes(model)), (REQUEST, _content(request)))
    return [*([str(place)] if removed else []), *_restore({directory / name: content for name, content in files})]


def publish_result(directory: SharedPath, folder: SharedPath, statement: Statement, model: Weights) -> list[str]:
    """Write *model*, the result, to *directory*, and the last *statement* to *folder*; see `publish_request`."""
    return _restore({directory / MODEL: array_bytes(model), folder / STATEMENT: _content(statement)})


def write_state(directory: SharedPath, state: CoordinatorState, model: Weights) -> None:
    """Write *state* with its *model* to *directory*; the state comes last.

    Raises:
        UserError: A file cannot be written.
    """
    write_arrays(directory / f"{state.model}.f32", model)
    _write_content(directory / FILE, _content(state))


def read_model(directory: SharedPath, state: CoordinatorState, shapes: Weights) -> dict[str, np.ndarray]:
    """Return the model of *state* in *directory*, with the names and shapes of *shapes*.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = directory / f"{state.model}.f32"
    model = read_arrays(path, shapes)
    if digest(model) != state.model:
        raise UserError(Diagnostic(str(path), "the model is damaged", help="Restore the directory of the state"))
    return model


def read_request(directory: SharedPath, shapes: Weights) -> tuple[RoundRequest, dict[str, np.ndarray]]:
    """Return the request in *directory*, and its model with the names and shapes of *shapes*.

    Raises:
        UserError: A file is missing, has another length, or is no such message.
    """
    return read_message(directory / REQUEST, RoundRequest), read_arrays(directory / MODEL, shapes)


def write_reply(directory: SharedPath, reply: RoundReply, update: Weights, key: Path) -> None:
    """Write *reply*, signed by the private *key*, with *update* to *directory*; the reply comes last.

    Raises:
        UserError: ssh-keygen does not sign with the key, or a file cannot be written.
    """
    content = _content(reply)
    signature = signatures.sign(content, key, NAMESPACE)
    write_arrays(directory / UPDATE, update)
    _write_content(directory / SIGNATURE, signature)
    _write_content(directory / REPLY, content)


def read_reply(directory: SharedPath, request: RoundRequest, site: str, signers: Path) -> RoundReply:
    """Return the reply of *site* to *request* in *directory*, after a check of its signature.

    Args:
        signers: Names of sites with their public keys, in the form of allowed signers of ssh-keygen.

    Raises:
        UserError: A file is missing or too large, or it is no reply of this site to this request.
    """
    content = read_content(directory / REPLY, REPLY_BYTES_MAX)
    signature = read_content(directory / SIGNATURE, signatures.BYTES_MAX)
    help = "Look who may write to the folder, and let the site answer again"
    if not signatures.is_signed(content, signature, site, signers, NAMESPACE):
        expected = f"a signature of these bytes by the key of {site} in {signers}"
        raise UserError(Diagnostic(str(directory / REPLY), f"the signature is not that of {site}", expected, help))
    reply = parse(content, directory / REPLY, RoundReply)
    if (reply.site, reply.round, reply.request) != (site, request.round, request.digest):
        expected = f"an answer to the request of round {request.round}"
        raise UserError(Diagnostic(str(directory / REPLY), "it answers another request", expected, help))
    return reply


def read_update(directory: SharedPath, shapes: Weights) -> dict[str, np.ndarray]:
    """Return the update beside a reply, with the names and shapes of *shapes*.

    Raises:
        UserError: The file is missing, or has another length.
    """
    return read_arrays(directory / UPDATE, shapes)


def read_statement(directory: SharedPath) -> Statement:
    """Return the statement in *directory*.

    Raises:
        UserError: The file is missing, too large, or no statement.
    """
    return read_message(directory / STATEMENT, Statement)


def write_arrays(path: SharedPath, arrays: Weights) -> None:
    """Write the values of *arrays* to *path*."""
    _write_content(path, array_bytes(arrays))


def array_bytes(arrays: Weights) -> bytes:
    """Return the values of *arrays* as float32."""
    return b"".join(np.ascontiguousarray(each, dtype="<f4").tobytes() for each in arrays.values())


def read_arrays(path: SharedPath, shapes: Weights) -> dict[str, np.ndarray]:
    """Return the arrays in *path*, with the names and shapes of *shapes*.

    Raises:
        UserError: The file cannot be read, or has another length.
    """
    size = sum(each.size for each in shapes.values())
    content = read_content(path, 4 * size)
    if len(content) != 4 * size:
        problem, expected = f"the file has {len(content)} bytes", f"{4 * size} bytes: {size} numbers of float32"
        raise UserError(Diagnostic(str(path), problem, expected, "Ask its sender for the file again"))
    values = np.frombuffer(content, dtype="<f4").astype(np.float32)
    parts = np.split(values, np.cumsum([each.size for each in shapes.values()])[:-1])
    return {name: part.reshape(each.shape) for (name, each), part in zip(shapes.items(), parts, strict=True)}


def _restore(files: Mapping[SharedPath, bytes]) -> list[str]:
    changed = []
    for path, content in files.items():
        try:
            changed += [str(path)] if path.restore(content) else []
        except OSError as error:
            raise _unwritable(path, error) from None
    return changed


def _content(message: ConfigSchema) -> bytes:
    return f"{message.model_dump_json(indent=1)}\n".encode()


def _write_content(path: SharedPath, content: bytes) -> None:
    try:
        path.write(content)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: SharedPath, error: OSError) -> UserError:
    problem, expected = f"the file cannot be written: {error.strerror}", "folders of one's own, and no links"
    return UserError(Diagnostic(str(path), problem, expected, "Look at the folder and its sender"))
