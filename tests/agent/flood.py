# SPDX-License-Identifier: Apache-2.0
"""Sends forged first packets from many clients by a device of this namespace, as fast as it can or at a rate.

`python flood.py DEVICE SOURCE_MAC DESTINATION_MAC ADDRESS PORT tcp|udp COUNT TIMES RATE`: COUNT clients of
198.18.0.0/15 or 2001:db8::/32, each of which sends TIMES packets; RATE is in packets a second, 0 for no limit. Prints
what was sent in how many seconds. Checksums are right, so the server answers.
"""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
import struct
import sys
import time

TCP, UDP = 6, 17
WORD = 0xFFFF


def total(data: bytes) -> int:
    """The sum of 16-bit words, for a checksum."""
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def folded(number: int) -> int:
    """The Internet checksum of a sum."""
    while number > WORD:
        number = (number >> 16) + (number & WORD)
    return ~number & WORD


class Template:
    """A frame in which source address, source port, sequence number and checksums vary."""

    def __init__(self, macs: tuple[str, str], address: str, port: int, protocol: int) -> None:
        destination = ipaddress.ip_address(address)
        self._tcp, self._version = protocol == TCP, destination.version
        self._bytes = 4 if self._version == 4 else 16
        body = (
            struct.pack("!HHIIBBHHH", 0, port, 0, 0, 5 << 4, 2, 65535, 0, 0)
            if self._tcp
            else struct.pack("!HHHH4s", 0, port, 12, 0, b"ask\n")
        )
        if self._version == 4:
            network, self._source_at, kind = ipaddress.ip_address("198.18.0.0"), 26, 0x800
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0)
        else:
            network, self._source_at, kind = ipaddress.ip_address("2001:db8::"), 22, 0x86DD
            ip = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
        source = network.packed
        ethernet = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in reversed(macs))
        head = ethernet + struct.pack("!H", kind) + ip + source + destination.packed
        self._at = len(head)
        self._network, self._frame = int(network), bytearray(head + body)
        self._ip_sum = total(ip + source + destination.packed)
        pseudo = source + destination.packed + struct.pack("!HH", protocol, len(body))
        self._sum = total(pseudo + body)

    def frame(self, client: int, port: int, sequence: int) -> bytearray:
        """The first packet of a client, whose number has 17 bits."""
        frame, at = self._frame, self._at
        source = (self._network + client).to_bytes(self._bytes, "big")
        frame[self._source_at : self._source_at + self._bytes] = source
        more = (client >> 16) + (client & WORD)
        struct.pack_into("!H", frame, at, port)
        if self._version == 4:
            struct.pack_into("!H", frame, 24, folded(self._ip_sum + more))
        if self._tcp:
            struct.pack_into("!I", frame, at + 4, sequence)
            more += (sequence >> 16) + (sequence & WORD)
        checksum = folded(self._sum + more + port)
        struct.pack_into("!H", frame, at + (16 if self._tcp else 6), checksum or WORD)
        return frame


def send(out: socket.socket, frame: bytearray) -> None:
    """Sends a frame, again if the receiver's queue is full."""
    while True:
        try:
            out.send(frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            time.sleep(0.001)
        else:
            return


def main(device: str, source: str, destination: str, address: str, port: str, *rest: str) -> None:
    protocol = TCP if rest[0] == "tcp" else UDP
    count, times, rate = (int(one) for one in rest[1:])
    template = Template((source, destination), address, int(port), protocol)
    number, sent, dice = 0, 0, random.Random()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((device, 0))
        started = time.monotonic()
        for number in range(count):
            frame = template.frame(
                dice.getrandbits(17), dice.randrange(1024, 65536), dice.getrandbits(32)
            )
            for _ in range(times):
                send(out, frame)
                sent += 1
            if rate and not number % 64:
                time.sleep(max(0.0, sent / rate - (time.monotonic() - started)))
        print(sent, time.monotonic() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
