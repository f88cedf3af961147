"""Hardening, line 8: the provider answers the account that started it, and no other one of the operator's computer."""

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2_grpc

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.foreign_caller import CALL, NOBODY
from tests.support.log import ROOT, Log

PROVIDER = ["/bin/sh", ROOT / "rackwright/toolchain/provider.sh", sys.executable]


@line("hardening", 8)
def test_the_provider_answers_only_the_account_that_started_it(log: Log) -> str:
    """The provider's own process, as pulumi starts it, and a process of an account without rights."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of another account")
    argv = [*PROVIDER, "127.0.0.1:1"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as provider:
        try:
            assert provider.stdout is not None
            port = int(provider.stdout.readline())
            log(f"account {NOBODY} calls the provider of account {os.geteuid()} at port {port}")
            done = log.run([sys.executable, "-c", CALL, str(port)], Path("/"), timeout=300)
            answers = dict(line.split() for line in done.stdout.splitlines())
            need(len(answers) >= 7, f"of its calls only {answers} ended: {done.stderr[-300:]}")
            passed = [f"{name}: {code}" for name, code in answers.items() if code != "PERMISSION_DENIED"]
            need(not passed, f"it got other answers than a refusal: {', '.join(passed)}")
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                version = provider_pb2_grpc.ResourceProviderStub(channel).GetPluginInfo(empty_pb2.Empty()).version
            need(version, "the provider's own account gets no answer")
        finally:
            provider.terminate()
    return f"account {NOBODY} was refused {len(answers)} calls, {', '.join(answers)}; the provider's own gets answers"
