"""The JSON documents of all commands: their types, and the JSON Schema of each.

Only `rackwright schema --output`, the reference and tests import this module: the types need most of rackwright.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from rackwright.audit.digests import DigestsData
from rackwright.audit.formats.json_report import AuditDocumentData
from rackwright.cli import json_log_types, json_tier_types, json_types
from rackwright.cli.plan import PlanData
from rackwright.cli.rebuild import Results
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.reidentify import IdentityData
from rackwright.iteration.report import ReportData
from rackwright.masking.check import MaskingCheck
from rackwright.masking.report import MaskingReport
from rackwright.qualify.item import QualificationData
from rackwright.quarantine.hosts import QuarantineData
from rackwright.schema.problem import hint
from rackwright.status.alerts import Silence
from rackwright.status.gpus import GpuReportData
from rackwright.status.runs import RunData
from rackwright.status.servers import ServerData
from rackwright.terminal import JSON_VERSION
from workloads.training.privacy.report import LedgerData, Receipt

OUTPUTS: Mapping[str, Any] = {
    "adopt": json_types.Adoption,
    "alert deliver": json_types.AuditDelivery,
    "alert expire": json_types.ExpiredSilences,
    "alert list": json_types.AlertList,
    "alert silence": Silence,
    "alert test": json_types.AlertTest,
    "audit": AuditDocumentData,
    "backup": json_types.CheckpointData,
    "cert": json_types.IssuedCertificate,
    "check": json_types.DeclarationCheck,
    "compare": json_types.FactComparison,
    "digests": DigestsData,
    "discover": json_types.Discovery,
    "doctor": json_types.ComputerReport,
    "drive certificate": json_types.CertificateCheck,
    "drive erase": json_types.ErasureData,
    "drive locate": json_types.LightData,
    "federation status": json_log_types.FederationStatus,
    "federation verify": json_log_types.FederationCheck,
    "gpu top": GpuReportData,
    "host qualify": QualificationData,
    "host reidentify": IdentityData,
    "journal": json_types.JournalEntries,
    "lineage": json_types.LineageData,
    "lock": json_types.LockChanges,
    "log export": json_log_types.LogExport,
    "log push": json_log_types.LogHead,
    "log show": json_log_types.LogEntries,
    "log verify": json_log_types.LogVerification,
    "mask": MaskingReport | MaskingCheck,
    "preview": PlanData,
    "privacy ledger": LedgerData,
    "privacy receipt": Receipt,
    "quarantine end": json_types.EndedQuarantine,
    "quarantine list": QuarantineData,
    "rebuild": Results,
    "registry push": json_types.PushedImage,
    "restore": json_types.CheckpointData,
    "run logs": json_types.LogLine,
    "run recipes": json_types.Recipes,
    "run status": RunData,
    "run stop": RunData,
    "run wait": RunData,
    "server fetch": json_types.FetchedModels,
    "server image": json_types.ImageContext,
    "server iterate": ReportData,
    "server logs": json_types.LogLine,
    "server promote": json_types.ModelChange,
    "server rollback": json_types.ModelChange,
    "server status": ServerData,
    "stacks": json_types.StackList,
    "status": json_types.StackStatus,
    "tier bench": json_tier_types.TierBench,
    "tier move": json_tier_types.ArchiveData | json_tier_types.PlacementResult,
    "tier plan": json_tier_types.TransferPlan | json_tier_types.PlacementPlan,
    "tier restore": json_tier_types.ArchiveData,
    "tier test": json_tier_types.RestoreTests,
    "tier verify": json_tier_types.ArchiveVerification,
    "twin status": json_types.TwinStatus,
    "upgrade": json_types.Upgrade,
}
"""The type of the document that each command prints with --json. `digests` has no such option, and always prints it."""
STREAMS = frozenset(("run logs", "server logs"))
"""Commands that print any number of documents, each in a line of its own."""
VERSION = "schema_version"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VERSION_SCHEMA = {
    "const": JSON_VERSION,
    "description": "Version of the form of all documents; it grows if a key is removed or renamed.",
    "type": "integer",
}
_DESCRIBED = ConfigDict(use_attribute_docstrings=True)


def json_schema(command: str) -> dict[str, Any]:
    """Return the JSON Schema of what *command* prints: its document, or the errors that ended it.

    Raises:
        DeclarationError: No such command prints JSON.
    """
    if command not in OUTPUTS:
        expected, help = f"one of {', '.join(OUTPUTS)}", hint(command, OUTPUTS, "Name one of these")
        problem = f"no command {command!r} prints JSON"
        raise DeclarationError(Diagnostic("--output", problem, expected, help))
    adapter: TypeAdapter[Any] = TypeAdapter(OUTPUTS[command] | json_types.Errors, config=_DESCRIBED)
    schema = adapter.json_schema(mode="serialization")
    for choice in schema["anyOf"]:
        document = schema["$defs"][choice["$ref"].rpartition("/")[2]]
        document["properties"] = {VERSION: _VERSION_SCHEMA, **document["properties"]}
        document["required"] = [VERSION, *document["required"]]
    return {"$schema": DIALECT, "title": f"rackwright {command}", **_publish(schema)}


def _publish(schema: Any) -> Any:
    """Return *schema* without pydantic's titles, and open for keys that a later version of rackwright adds."""
    if isinstance(schema, list):
        return [_publish(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: value for key, value in schema.items() if key != "title" and value is not False}
    named = {key: parts.pop(key) for key in ("$defs", "properties") if key in parts}
    return {
        **{key: {name: _publish(each) for name, each in below.items()} for key, below in named.items()},
        **{key: _publish(value) for key, value in parts.items()},
    }
