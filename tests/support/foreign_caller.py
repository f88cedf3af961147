"""A program of another account that calls the provider."""

NOBODY = 65534
CALL = """
import os
import sys
import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc
os.setgid(65534), os.setuid(65534)
stub = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}"))
urn = "urn:pulumi:lab::rackwright::rackwright:storage:Tier::gpu-01/hot"
calls = {
    "Handshake": provider_pb2.ProviderHandshakeRequest(engine_address="127.0.0.1:1"),
    "Configure": provider_pb2.ConfigureRequest(urn=urn),
    "Check": provider_pb2.CheckRequest(urn=urn),
    "Create": provider_pb2.CreateRequest(urn=urn),
    "Delete": provider_pb2.DeleteRequest(urn=urn),
    "GetPluginInfo": empty_pb2.Empty(),
    "Cancel": empty_pb2.Empty(),
}
for name, request in calls.items():
    try:
        getattr(stub, name)(request, timeout=60)
        print(name, "OK")
    except grpc.RpcError as error:
        print(name, error.code().name)
"""
