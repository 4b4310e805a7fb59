"""Doors that speak TLS with a certificate of one's own authority: what is trusted, and what is said when it is not."""

import contextlib
import datetime as dt
import json
import socketserver
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from servers import OK

from mainspring.cli.app import run
from mainspring.core.errors import UnavailableError
from mainspring.load.pool import Pool
from mainspring.load.shape import steady
from mainspring.load.traffic import Server, Traffic
from mainspring.serving.grpc_messages import SERVICE

from certificates import Authority  # isort: skip

CALLS = Pool(((b"x" * 16, b""),), ("str", 0), 1, True)


class Refusing(socketserver.BaseRequestHandler):
    """What a plain door answers to the beginning of TLS."""

    def handle(self):
        self.request.recv(1)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "doors")


@pytest.fixture(params=["http", "grpc"])
def door(request, answering, plain):
    """Opens a door with a certificate, or none; gives its port and the requests for it."""
    with contextlib.ExitStack() as stack:

        def http(pair):
            if pair is None:
                plain_door = stack.enter_context(socketserver.TCPServer(("127.0.0.1", 0), Refusing))
                threading.Thread(target=plain_door.serve_forever, daemon=True).start()
                stack.callback(plain_door.shutdown)
                return plain_door.server_address[1], plain
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*pair)
            return stack.enter_context(answering(lambda _: OK, context)).port, plain

        def calls(pair):
            server = grpc.server(ThreadPoolExecutor(1))
            infer = grpc.unary_unary_rpc_method_handler(lambda _body, _context: b"")
            handlers = grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": infer})
            server.add_generic_rpc_handlers((handlers,))
            if pair is None:
                port = server.add_insecure_port("127.0.0.1:0")
            else:
                cert, key = (path.read_bytes() for path in pair)
                port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
            server.start()
            stack.callback(lambda: server.stop(None).wait())
            return port, CALLS

        yield {"http": http, "grpc": calls}[request.param]


def refusal(server, pool):
    """What is said of a first request, and what to do."""
    with (
        pytest.raises(UnavailableError, match="MS-C104") as caught,
        Traffic(server, pool, timeout_s=60, seed=1) as traffic,
    ):
        traffic.probe()
    return caught.value.what, caught.value.hint


def test_a_certificate_of_an_authority_that_is_named_is_trusted(door, authority):
    port, pool = door(authority.sign("localhost", client=False))
    with Traffic(Server("localhost", port, True, authority.cert.read_text()), pool, timeout_s=60, seed=1) as traffic:
        traffic.probe()
        (level,) = traffic.run(steady(20, 0.5))
    assert level.sent > 0
    assert not level.errors


def test_of_a_certificate_that_is_not_trusted_it_is_said_why_and_what_to_do(door, authority):
    port, pool = door(authority.sign("localhost", client=False))
    what, hint = refusal(Server("localhost", port, True), pool)
    assert "its certificate is not trusted: unable to get local issuer certificate" in what
    assert hint.startswith("--ca-file FILE")
    pem = authority.cert.read_text()
    what, hint = refusal(Server("127.0.0.1", port, True, pem), pool)
    assert ("not trusted" in what, hint) == (True, "--url with a name that its certificate is for")
    port, pool = door(authority.sign("localhost", client=False, age=dt.timedelta(days=3)))
    what, hint = refusal(Server("localhost", port, True, pem), pool)
    assert "certificate has expired" in what
    assert hint.startswith("it is not valid at this time")


def test_tls_at_a_plain_door_is_not_taken_for_a_server_that_is_down(door):
    port, pool = door(None)
    what, hint = refusal(Server("localhost", port, True), pool)
    assert "TLS was not agreed on" in what
    assert "https:// and grpcs:// are for doors that speak TLS" in hint


def test_the_command_takes_the_authority_from_a_file(world, answering, authority, capsys):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("localhost", client=False))
    with answering(lambda _: OK, context) as server:
        url = f"https://localhost:{server.port}"
        argv = ["late_ride", "--url", url, "--yes", "--rate", "50", "--for", "100ms", "--json", "-C", str(world.root)]
        assert run(["load", *argv]) == 7
        assert json.loads(capsys.readouterr().err)["hint"].startswith("--ca-file FILE")
        assert run(["load", *argv, "--ca-file", str(authority.cert)]) == 0
        assert json.loads(capsys.readouterr().out)["levels"][0]["errors"] == {}
        plain = ["http://" + one.removeprefix("https://") for one in argv if one == url]
        assert run(["load", *(plain[0] if one == url else one for one in argv)]) == 7
        assert "a door that speaks TLS is https://" in json.loads(capsys.readouterr().err)["hint"]
