"""The OpenAPI document of a server, which names its one model, and has bodies that are not read by the framework."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from workloads.serving.model import Model

_SCHEMAS = "#/components/schemas/{model}"


def body_of(kind: type[BaseModel], **others: Any) -> dict[str, Any]:
    """Return what describes a body that is a *kind* in JSON, or one of *others*, by content type."""
    schema = {"$ref": _SCHEMAS.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}, **others}}}


def complete(app: FastAPI, model: Model, *kinds: type[BaseModel]) -> None:
    """Let the document of *app*, whose routes are all there, have the schemas of *kinds* and the name of *model*."""
    told = app.openapi()
    _, schemas = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_SCHEMAS)
    for schema in schemas["$defs"].values():
        if "model" in schema["properties"]:
            schema["properties"]["model"]["enum"] = [model.name]
    told["components"]["schemas"].update(schemas["$defs"])
    known = {"name": [model.name], "version": [model.version]}
    operations = [operation for path in told["paths"].values() for operation in path.values()]
    for parameter in [each for operation in operations for each in operation.get("parameters", [])]:
        if parameter["in"] == "path":
            parameter["schema"]["enum"] = known[parameter["name"]]
