"""A process that takes a server's port, or its account's socket, gets no key of the host and passes for no release."""

import json

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.models import SECOND
from tests.support.tiny_server_lab import ACCOUNT, HOST, PORT, SERVER, UNIT, tiny_server_lab

SOCKET = f"/run/rackwright-servers/{SERVER}/socket"
IMPOSTOR = """
import http.server, json, socket, sys, threading
PORT, VERSION, LOG = int(sys.argv[1]), *sys.argv[2:]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(LOG, "a") as log: log.write(f"{self.path} {self.headers.get('Authorization')}\\n")
        body = json.dumps({"ready": True, "version": VERSION}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
"""
"""Answers as a server that is ready with the version that it was given, and notes what it was sent."""
BEGIN = f"""
useradd --no-create-home impostor 2> /dev/null || true
install -d -o impostor /run/impostor
cat > /run/impostor/impostor.py <<'END'
{IMPOSTOR}
END
systemctl stop {UNIT}
systemctl stop impostor 2> /dev/null || true
systemd-run --quiet --collect --unit=impostor --uid=impostor \\
  python3 /run/impostor/impostor.py {PORT} VERSION /run/impostor/got
"""
LISTENS = f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {PORT}), 5)\" && echo yes"
STEALS = [
    f"runuser -u impostor -- python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{SOCKET}')\"",
    f"runuser -u impostor -- rm {SOCKET}",
    f"runuser -u impostor -- ls {SOCKET.rpartition('/')[0]}",
]
LINK = f"""
systemctl start {UNIT}
runuser -u {ACCOUNT} -- rm {SOCKET}
runuser -u {ACCOUNT} -- ln -s /run/other.sock {SOCKET}
cat > /run/other.py <<'END'
import os, socket
listening = socket.socket(socket.AF_UNIX); listening.bind("/run/other.sock"); listening.listen()
open("/run/other.ready", "w").close()
while True:
    listening.accept(); open("/run/other.asked", "w").close()
END
rm -f /run/other.*d /run/other.sock
systemd-run --quiet --collect --unit=other python3 /run/other.py
"""
"""The account of the server itself, taken over: it lets its socket lead to a service of root's."""


@line("hardening", 9)
def test_a_process_on_the_port_of_a_server_gets_no_key_and_passes_for_no_release(log: Log) -> str:
    """Another account binds the port while the server is down; then the server's own account plants a link."""
    with tiny_server_lab(log) as lab:
        for attack in STEALS:
            output = lab.ssh(HOST, f"if {attack} 2> /dev/null; then echo done; fi")
            need("done" not in output, f"another account could do: {attack}")

        version = lab.status(status=0)["version"]
        lab.ssh(HOST, BEGIN.replace("VERSION /run", f"{version} /run"))
        eventually(lambda: lab.ssh(HOST, LISTENS, status=None) == "yes", "the impostor listens")
        report = lab.status(status=1)
        need(report["outcome"] == "stopped" and report["version"] is None, f"status believes the impostor: {report}")
        need(
            (f"{HOST}/{SERVER}", f"server:{SERVER}") in lab.audit_differences(status=1),
            "the audit believes the impostor",
        )

        second = json.loads((lab.directory / "models" / SECOND / "model.json").read_text())["version"]
        lab.ssh(HOST, BEGIN.replace("VERSION /run", f"{second} /run"))
        lab.rackwright("server", "promote", lab.stack, SERVER, f"models/{SECOND}", status=0)
        done = lab.up(status=4)
        need("Address already in use" in done.stdout + done.stderr, f"`up` says {(done.stdout + done.stderr)[-600:]}")
        got = lab.ssh(HOST, "cat /run/impostor/got 2> /dev/null", status=None)
        need(not got, f"the impostor was asked: {got}")

        lab.ssh(HOST, "systemctl stop impostor")
        lab.up()
        need(lab.status(status=0)["version"] == second, "it does not serve after the impostor has gone")
        lab.ssh(HOST, LINK)
        eventually(lambda: lab.ssh(HOST, "ls /run/other.ready", status=None), "the other service listens")
        report = lab.status(status=1)
        need(report["outcome"] != "ready", f"status believes the other service: {report}")
        need(not lab.ssh(HOST, "ls /run/other.asked 2> /dev/null", status=None), "root spoke to the other service")
        return (
            "with another account on the port status, audit and `up` name the server as not ready, and it was sent"
            " nothing; another account can neither reach nor remove the socket; a link of the server's own account to"
            " a service of root's is not followed"
        )
