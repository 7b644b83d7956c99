# SPDX-License-Identifier: Apache-2.0
"""Addresses of boards."""

from __future__ import annotations

import ipaddress

from e2train.devices.protocol import DeviceError

__all__ = ["is_elsewhere", "is_loopback", "parse_address"]


def parse_address(device: str, address: str, *, port: int) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``; ``port`` is the default.

    Raises: DeviceError.

    >>> parse_address("pynq", "board.local:8000", port=7967)
    ('board.local', 8000)
    >>> parse_address("pynq", "[fe80::1]", port=7967)
    ('fe80::1', 7967)
    """
    host, bracket, rest = address.removeprefix("[").partition("]")
    if not (address.startswith("[") and bracket):
        host, colon, rest = address.partition(":")
        rest = colon + rest
    number = rest.removeprefix(":") if rest else str(port)
    if not host or not number.isascii() or not number.isdecimal() or not 0 < int(number[:6]) < 1 << 16:
        raise DeviceError(
            f"device {device}:{address}: give HOST or HOST:PORT with a port in 1..65535, an IPv6 address in "
            "brackets"
        )
    return host, int(number)


def is_elsewhere(device: str) -> bool:
    """Whether a device is a board or an agent on another machine, whose sensors are not this one's.

    >>> is_elsewhere("pynq:board.local"), is_elsewhere("agent:127.0.0.1"), is_elsewhere("pynq")
    (True, False, False)
    """
    name, _, address = device.partition(":")
    if name not in ("agent", "pynq") or not address:
        return False
    return not is_loopback(parse_address(name, address, port=1)[0])


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address that a server listens on."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
