# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries to get out of a box in every way that matters, and prints as JSON what it reached.

The arguments are pairs of address and port. Beside them it tries the name servers of the box,
over UDP and TCP, the gateway, addresses on the internet, and to resolve a name.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TIMEOUT = 2.0
OUTSIDE = (("1.1.1.1", 443), ("9.9.9.9", 53), ("2606:4700:4700::1111", 443))
# A query for the A records of example.com.
QUERY = b"\x13\x37\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"


def reaches_tcp(address: str, port: int) -> str:
    """Why a connection was not made, or nothing."""
    try:
        socket.create_connection((address, port), timeout=TIMEOUT).close()
    except OSError as error:
        return str(error) or type(error).__name__
    return ""


def reaches_udp(address: str) -> str:
    """Why a name server did not answer, or nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        channel.settimeout(TIMEOUT)
        try:
            channel.sendto(QUERY, (address, 53))
            channel.recv(512)
        except OSError as error:
            return str(error) or type(error).__name__
    return ""


def resolves(name: str) -> str:
    """Why a name was not resolved, or nothing."""
    try:
        socket.getaddrinfo(name, 443)
    except OSError as error:
        return str(error) or type(error).__name__
    return ""


def name_servers() -> list[str]:
    text = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    return re.findall(r"^\s*nameserver\s+([0-9A-Fa-f.:]+)", text, re.MULTILINE)


def gateway() -> list[str]:
    """The gateway of the default route."""
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[1] == "00000000" and int(fields[3], 16) & 2:
            return [socket.inet_ntoa(struct.pack("<I", int(fields[2], 16)))]
    return []


def attempts(given: list[str]) -> dict[str, Callable[[], str]]:
    """Everything that is tried, by a name for people."""
    tcp = [(address, int(port)) for address, port in zip(given[::2], given[1::2])]
    tcp += [*OUTSIDE, *((address, 53) for address in name_servers())]
    tcp += [(address, 22) for address in gateway()]
    found: dict[str, Callable[[], str]] = {}
    for address, port in tcp:
        found[f"tcp {address} {port}"] = lambda a=address, p=port: reaches_tcp(a, p)  # type: ignore[misc]
    for address in name_servers():
        found[f"udp {address} 53"] = lambda a=address: reaches_udp(a)  # type: ignore[misc]
    found["name deb.debian.org"] = lambda: resolves("deb.debian.org")
    return found


def main() -> None:
    begin = time.monotonic()
    os.environ["RES_OPTIONS"] = f"timeout:{TIMEOUT:.0f} attempts:1"  # of the C library's resolver
    tried = attempts(sys.argv[1:])
    with ThreadPoolExecutor(max_workers=len(tried)) as pool:
        futures = {name: pool.submit(attempt) for name, attempt in tried.items()}
    results = {name: future.result() for name, future in futures.items()}
    answer = {
        "reached": sorted(name for name, problem in results.items() if not problem),
        "failed": {name: problem for name, problem in results.items() if problem},
        "seconds": round(time.monotonic() - begin, 3),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
