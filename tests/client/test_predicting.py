"""``predict`` of both clients, against a real gateway."""

import asyncio
import socket
import ssl
import sys
from pathlib import Path

import pytest

import mainspring as ms
from mainspring.core.errors import ContractError, DeadlineError, NotFoundError, UnavailableError

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))
sys.path.insert(0, str(Path(__file__).parents[1] / "load"))

from certificates import Authority
from doors import open_doors
from rides import World, ride
from servers import Answering


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """The URL of a gateway that serves one model, and its version."""
    with World(tmp_path_factory.mktemp("predicting")) as world:
        version = world.live()
        with open_doors(world) as (http, _grpc):
            yield f"http://{http}", version


def test_a_row_has_one_answer_and_a_list_as_many_with_bad_rows_in_place(gateway):
    url, version = gateway
    with ms.Client(url) as client:
        one = client.predict("late_ride", ride(), with_status=True)
        assert 0 < one.prediction < 1
        assert (one.model_version, one.variant, one.error) == (version, "champion", None)
        assert one.status["driver__late_mean_1h"] == "missing"
        many = client.predict("late_ride", [ride(1), ride(2, distance_km="far"), ride(3)])
        assert [found.prediction is None for found in many] == [False, True, False]
        assert (many[1].code, many[1].where) == ("MS-E102", "$.distance_km")


def test_what_the_gateway_refuses_is_an_error_of_the_same_kind_and_code(gateway):
    url, _ = gateway
    with ms.Client(url) as client:
        with pytest.raises(ContractError, match="MS-E102"):
            client.predict("late_ride", ride(distance_km="far"))
        with pytest.raises(NotFoundError, match="MS-S109"):
            client.predict("early", ride())
        with pytest.raises(ContractError, match="MS-E507"):
            client.predict("late/../health", ride())


def test_the_asynchronous_client_has_many_questions_under_way(gateway):
    url, _ = gateway

    async def main():
        async with ms.AsyncClient(url) as client:
            many = await asyncio.gather(*(client.predict("late_ride", ride(i)) for i in range(100)))
            again = await client.predict("late_ride", [ride(1)])
            with pytest.raises(ContractError, match="MS-E102"):
                await client.predict("late_ride", ride(distance_km="far"))
            return many, again

    many, again = asyncio.run(main())
    assert len({one.prediction_id for one in many}) == 100
    assert again[0].prediction == many[1].prediction


def test_a_gateway_that_is_away_or_silent_costs_no_more_than_the_time_given():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with ms.Client(url, timeout_s=0.2) as client, pytest.raises(DeadlineError, match="MS-E508"):
            client.predict("late_ride", ride())

        async def main():
            async with ms.AsyncClient(url) as client:
                with pytest.raises(DeadlineError, match="MS-E508"):
                    await client.predict("late_ride", ride(), timeout_s=0.2)

        asyncio.run(main())
    with ms.Client(url) as client, pytest.raises(UnavailableError, match=r"MS-E509(.|\n)*refused"):
        client.predict("late_ride", ride(), timeout_s=0.2)


def test_both_clients_trust_the_authority_that_the_environment_names(tmp_path, monkeypatch):
    authority = Authority(tmp_path, "doors")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("localhost", client=False))
    body = b'{"prediction":0.5,"prediction_id":"x-1","model_version":"v","variant":"champion"}'
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def ask(url):
        async with ms.AsyncClient(url) as client:
            return await client.predict("late_ride", ride())

    with Answering(lambda _: whole, context) as server:
        url = f"https://localhost:{server.port}"
        with ms.Client(url) as client, pytest.raises(UnavailableError, match="certificate verify failed"):
            client.predict("late_ride", ride())
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
        with ms.Client(url) as client:
            assert client.predict("late_ride", ride()).prediction == 0.5
        assert asyncio.run(ask(url)).prediction == 0.5
