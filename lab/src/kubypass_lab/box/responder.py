# SPDX-License-Identifier: Apache-2.0
"""The program of pods whose image is not nginx.

It answers HTTP requests, lines over TCP and datagrams with one line of JSON: the pod, the node, the client's address
as the pod sees it, and the local address. It serves both families, and writes IPv4-mapped addresses as IPv4.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import struct

_HTTP_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"OPTIONS ")
_IPV6_RECVPKTINFO = 49  # include/uapi/linux/in6.h
_IPV6_PKTINFO = 50


class Responder:
    """The answers of one pod."""

    def __init__(self, pod: str, node: str) -> None:
        self._identity = {"pod": pod, "node": node}

    def answer(
        self, protocol: str, client: tuple[str, int], local: tuple[str, int], request: str
    ) -> bytes:
        """The answer as one line of JSON."""
        fields = {
            **self._identity,
            "protocol": protocol,
            "client": _endpoint(*client),
            "local": _endpoint(*local),
            "request": request,
        }
        return json.dumps(fields).encode() + b"\n"

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request or line of one connection until the client closes it."""
        try:
            while line := await reader.readline():
                await self._answer_line(line, reader, writer)
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            pass  # the client is gone, or sent an endless line: there is nobody to report to
        finally:
            writer.close()

    async def _answer_line(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client, local = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        text = line.decode(errors="replace").strip()
        if not line.startswith(_HTTP_METHODS):
            writer.write(self.answer("TCP", client[:2], local[:2], text))
            await writer.drain()
            return
        length, keep = 0, text.endswith("HTTP/1.1")
        while (header := await reader.readline()).strip():
            name, _, value = header.decode(errors="replace").partition(":")
            if name.lower() == "content-length" and value.strip().isdigit():
                length = int(value)
            if name.lower() == "connection":
                keep = value.strip().lower() == "keep-alive" or (
                    keep and value.strip().lower() != "close"
                )
        await reader.readexactly(length)
        body = self.answer("HTTP", client[:2], local[:2], text)
        connection = "keep-alive" if keep else "close"
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        writer.write(
            f"{head}Connection: {connection}\r\n\r\n".encode()
            + (b"" if line.startswith(b"HEAD ") else body)
        )
        await writer.drain()
        if not keep:
            reader.feed_eof()

    def serve_datagram(self, listener: socket.socket, port: int) -> None:
        """Answer one datagram, from the address to which it was sent."""
        try:
            request, ancillary, _, client = listener.recvmsg(65536, socket.CMSG_SPACE(20))
        except (BlockingIOError, ConnectionError):
            return
        local = "::"
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                local = socket.inet_ntop(socket.AF_INET6, value[:16])
        text = request.decode(errors="replace").strip()
        reply = self.answer("UDP", client[:2], (local, port), text)
        source = struct.pack("16si", socket.inet_pton(socket.AF_INET6, local), 0)
        try:
            listener.sendmsg([reply], [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, source)], 0, client)
        except OSError:
            return  # the client asks again, as with any UDP server


def _endpoint(address: str, port: int) -> str:
    address = address.removeprefix("::ffff:")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _listen(kind: socket.SocketKind, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_DGRAM:
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    listener.bind(("::", port))
    listener.setblocking(False)
    return listener


async def _serve(responder: Responder, tcp: list[int], udp: list[int]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    for port in tcp:
        await asyncio.start_server(
            responder.serve_tcp, sock=_listen(socket.SOCK_STREAM, port), backlog=1024
        )
    for port in udp:
        listener = _listen(socket.SOCK_DGRAM, port)
        loop.add_reader(listener, responder.serve_datagram, listener, port)
    await ended.wait()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        description="Answers with pod, node, client address and local address."
    )
    parser.add_argument("--pod", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--tcp", type=int, action="append", default=[])
    parser.add_argument("--udp", type=int, action="append", default=[])
    arguments = parser.parse_args()
    asyncio.run(_serve(Responder(arguments.pod, arguments.node), arguments.tcp, arguments.udp))


if __name__ == "__main__":
    main()
