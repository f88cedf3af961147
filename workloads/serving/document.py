"""The OpenAPI document of a server, with the name of its one model and the bodies that FastAPI does not parse."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from workloads.serving.model import Model

_SCHEMAS = "#/components/schemas/{model}"


def describe_body(kind: type[BaseModel], **others: Any) -> dict[str, Any]:
    """Return the OpenAPI description of a body that is JSON of *kind*, or of one of *others* by content type."""
    schema = {"$ref": _SCHEMAS.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}, **others}}}


def complete_schema(app: FastAPI, model: Model, *kinds: type[BaseModel]) -> None:
    """Add the schemas of *kinds* and the name of *model* to the document of *app*, whose routes are complete."""
    schema_document = app.openapi()
    _, schemas = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_SCHEMAS)
    definitions = schemas.get("$defs", {})
    for schema in definitions.values():
        if "model" in schema["properties"]:
            schema["properties"]["model"]["enum"] = [model.name]
    schema_document["components"]["schemas"].update(definitions)
    values = {"name": [model.name], "version": [model.version]}
    operations = [operation for path in schema_document["paths"].values() for operation in path.values()]
    for parameter in [each for operation in operations for each in operation.get("parameters", [])]:
        if parameter["in"] == "path" and parameter["name"] in values:
            parameter["schema"]["enum"] = values[parameter["name"]]
