"""A connection from a host to one address, over the standard input and output of this program.

Role `access` closes the forwarding of ports by SSH; a program with the rights of root needs none.
"""

import os
import socket
import sys
import threading

AT_ONCE = 1 << 16
CONNECT_SECONDS = 5
"""Time for a connection within a rack. A client waits for it as often as it tries again."""


def relay(address: str, port: int) -> None:
    """Send standard input to *address*, and its answers to standard output, until either ends."""
    with socket.create_connection((address, port), CONNECT_SECONDS) as connection:
        connection.settimeout(None)
        threading.Thread(target=_send, args=(connection,), daemon=True).start()
        while data := connection.recv(AT_ONCE):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _send(connection: socket.socket) -> None:
    while data := os.read(sys.stdin.fileno(), AT_ONCE):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_RDWR)  # the client is gone, and no program reads another answer


if __name__ == "__main__":
    relay(sys.argv[1], int(sys.argv[2]))
