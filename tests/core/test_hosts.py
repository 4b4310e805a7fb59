"""A host that nothing can listen on is told apart from a port that somebody has, before keys are asked for."""

import errno
import socket

import msgspec
import pytest

from mainspring.core.access import access_of
from mainspring.core.config import load_config
from mainspring.core.errors import UnavailableError
from mainspring.core.hosts import cannot_listen
from mainspring.core.http import hold_port

ELSEWHERE = "192.0.2.1"  # RFC 5737: nobody's address


@pytest.fixture
def config(tmp_path):
    (tmp_path / "mainspring.toml").write_text('[project]\nname = "a"\n')
    return load_config(tmp_path)


def test_a_door_on_another_machines_address_is_refused_for_that_and_not_for_want_of_keys(config):
    door = msgspec.structs.replace(config.gateway, host=ELSEWHERE)
    with pytest.raises(UnavailableError, match=f"MS-S002: cannot listen on {ELSEWHERE}") as caught:
        access_of(config, door)
    assert "an address or a name of this machine" in caught.value.hint
    assert "stop what listens" not in caught.value.hint


def test_all_addresses_of_this_machine_are_its_own(config):
    assert access_of(config, msgspec.structs.replace(config.gateway, host="0.0.0.0")).is_wide
    assert not access_of(config, config.gateway).is_wide


def test_a_port_for_workers_on_another_machines_address_is_not_taken_by_anybody():
    with pytest.raises(UnavailableError, match="MS-S002") as caught:
        hold_port(ELSEWHERE, 0)
    assert "stop what listens" not in caught.value.hint


def test_a_port_that_somebody_has_can_be_given_up():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"MS-S002: cannot listen on 127.0.0.1:{port}") as caught:
            hold_port("127.0.0.1", port)
    assert "stop what listens there" in caught.value.hint


def test_a_name_that_nobody_knows_and_a_port_that_is_not_for_us_have_hints_of_their_own():
    with pytest.raises(socket.gaierror) as unknown:
        socket.getaddrinfo("nope", 0, flags=socket.AI_NUMERICHOST)  # says what a resolver would, without asking one
    assert "a name of this machine" in cannot_listen("nope", 7070, unknown.value).hint
    denied = PermissionError(errno.EACCES, "Permission denied")
    assert "1024 or more" in cannot_listen("::1", 80, denied).hint
    assert "[::1]:80" in str(cannot_listen("::1", 80, denied))
