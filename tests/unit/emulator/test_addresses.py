"""Loopback addresses of load balancers and tasks on the embedded AWS."""

from __future__ import annotations

import pytest

from emulator.gaps import addresses


def test_an_address_is_made_of_the_port_and_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", str(235 * 256 + 73))
    assert [addresses.address(number) for number in (1, 99, 100, 254)] == [
        "127.235.73.1",
        "127.235.73.99",
        "127.235.73.100",
        "127.235.73.254",
    ]


@pytest.mark.parametrize("number", [0, 255])
def test_a_number_that_no_address_can_have_is_refused(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "4566")
    with pytest.raises(ValueError, match=f"number {number} of a loopback address: use 1 to 254"):
        addresses.address(number)
