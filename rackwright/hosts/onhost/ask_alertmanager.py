"""One request to Alertmanager on its host, as root with the certificate of the client; prints the status and the body.

It runs on the host alone, on its standard library: ``python3 - PORT METHOD PATH [BODY]`` with this text on standard
input. ``python3 - PORT EACH BYTES PATH...`` gets several paths and prints a line for each: the status and the body, or
``long`` for a body of more than BYTES. A server that does not answer is an error on standard error, and exit status 1.
"""

import ssl
import sys
import urllib.error
import urllib.request

PLACE = "/etc/rackwright/prometheus"
BODY_BYTES = 4 << 20
SECONDS = 20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def main() -> None:
    port, method, first, *more = sys.argv[1:]
    if method != "EACH":
        status, content = ask(port, method, first, more[0] if more else "")
        sys.stdout.write(f"{status}\n{content.decode(errors='replace')}")
        return
    for path in more:
        status, content = ask(port, "GET", path)
        text = "" if len(content) > int(first) else content.decode(errors="replace")
        line = text.replace("\n", " ").replace("\r", " ")
        sys.stdout.write(f"{'long' if content and not text else status} {line}\n")


def ask(port: str, method: str, path: str, body: str = "") -> "tuple[int, bytes]":
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", method=method)
    if body:
        request.data = body.encode()
        request.add_header("content-type", "application/json")
    try:
        context = ssl.create_default_context(cafile=f"{PLACE}/authority.crt")
        context.load_cert_chain(f"{PLACE}/client.crt", f"{PLACE}/client.key")
        handler = urllib.request.HTTPSHandler(context=context)
        # no proxy of the environment comes between
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect(), handler)
        with opener.open(request, timeout=SECONDS) as answer:
            return answer.status, answer.read(BODY_BYTES)
    except urllib.error.HTTPError as error:
        return error.code, error.read(BODY_BYTES)
    except OSError as error:
        sys.exit(str(error))


main()
