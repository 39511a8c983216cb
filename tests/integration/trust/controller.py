"""The enrolment of a controller, over real TLS, without its registry: the tokens stand in a dictionary."""

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from isthmus_controller.trust import TrustAuthority, check_token, consume_token, init_federation, issue_token, token_id
from isthmus_core.errors import InvalidInput, IsthmusError, Refused
from isthmus_core.names import Locality
from isthmus_kit.pki import Identity
from isthmus_kit.tls import ClientCertificates, server_context
from isthmus_sync.proto import isthmus_pb2 as pb


class Controller:
    """Listens on a port of its own; a context manager. `asked` lists what it was sent: (path, body)."""

    def __init__(self, folder: Path, domain: str = "fed.test", identity: Identity | None = None) -> None:
        init_federation(folder, "test", domain, "admin", passphrase="a long enough passphrase")
        (folder / "root.passphrase").write_text("a long enough passphrase")
        self.trust = TrustAuthority.load(folder)
        self.tokens: dict[str, pb.JoinToken] = {}
        self.asked: list[tuple[str, bytes]] = []
        self.alter: Callable[[dict[str, object]], None] = lambda answer: None
        self.drop_answers = 0
        outer = self

        class Requests(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                outer.asked.append((self.path, b""))
                self._say(200, {"root_certificates": outer.trust.root_pem.decode()})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.path, body))
                try:
                    answer = outer.enrol(**json.loads(body))
                except IsthmusError as error:
                    status = 403 if isinstance(error, Refused) else 400
                    self._say(status, {"error": error.sentence, "mend": error.mend})
                    return
                if outer.drop_answers:
                    outer.drop_answers -= 1
                    self.close_connection = True
                    return
                self._say(200, answer)

            def _say(self, status: int, answer: object) -> None:
                encoded = msgspec.json.encode(answer)
                self.send_response(status)
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients that hang up are part of the tests

        self._server = Server(("127.0.0.1", 0), Requests)
        shown = identity or self.trust.issue(datetime.now(UTC))
        context = server_context(shown, ClientCertificates.OPTIONAL)
        # The handshake comes in the thread of the connection, where a failure ends only that connection.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="controller")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def token(self, cluster: str = "a", ttl: timedelta = timedelta(minutes=5), **changes: object) -> str:
        given: dict[str, object] = {"controllers": [self.address], "root_fingerprint": self.trust.root_fingerprint}
        given |= changes
        text, record = issue_token(
            cluster,
            Locality("aws", "eu-west-1", "a"),
            "net",
            ttl,
            str(given["root_fingerprint"]),
            given["controllers"],  # type: ignore[arg-type]
            datetime.now(UTC),
            os.urandom,
            self.trust.domain,
        )
        self.tokens[record.id] = record
        return text

    def enrol(self, token: str, csr: str) -> dict[str, object]:
        now = datetime.now(UTC)
        record = self.tokens.get(token_id(token))
        checked = check_token(token, record, now, csr.encode())
        if record is None:
            raise InvalidInput("unreachable: check_token refuses what is not known")
        self.tokens[record.id] = consume_token(record, csr.encode())
        answer: dict[str, object] = {
            "ca_certificate": self.trust.sign_cluster_ca(checked.cluster, csr.encode()).decode(),
            "root_certificates": self.trust.root_pem.decode(),
            "federation": self.trust.name,
            "cluster": checked.cluster,
            "domain": self.trust.domain,
            "locality": "aws/eu-west-1/a",
            "network": record.network,
            "controllers": ["127.0.0.1:15010"],
        }
        self.alter(answer)
        return answer

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
