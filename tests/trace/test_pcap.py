# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace --pcap`: a capture goes through the programs; lines and packets say what became of each packet."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from kubypass.model.address import parse_address
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import Verdict
from kubypass.trace.capture import ETHERNET, Record
from kubypass.trace.manifest_node import manifest_node
from kubypass.trace.packets import Flow, build, read
from kubypass.trace.replay import Replay, Replayed, Service
from kubypass.trace.run import Answer
from kubypass.trace.traced_node import TracedNode
from tests.packet.raw import checksum
from tests.program import KUBYPASS
from tests.trace.captures import frames_of, pcap
from tests.trace.cases import errors
from tests.trace.objects import CLIENT, NODES, OBJECTS

NODE_PORT, BACKEND = (NODES["node1"], 30080), ("10.244.1.5", 8080)
Run = Callable[..., list[Replayed]]


def packet(
    source: tuple[str, int],
    to: tuple[str, int],
    protocol: Protocol = Protocol.TCP,
    *,
    reply: bool = False,
) -> bytes:
    flow = Flow(parse_address(source[0]), source[1], parse_address(to[0]), to[1], protocol)
    return build(flow, reply=reply)


SYN = packet((CLIENT, 4000), NODE_PORT)
SYN_ACK = packet(BACKEND, (CLIENT, 4000), reply=True)
NOBODYS = packet((CLIENT, 4000), (NODES["node1"], 9))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedNode]:
    path = tmp_path_factory.mktemp("objects")
    (path / "all.json").write_text(json.dumps({"kind": "List", "items": OBJECTS}))
    with manifest_node(path, "node1", None) as node:
        yield node


@pytest.fixture
def replay(node: TracedNode) -> Run:
    node.programs.forget()

    def replay(frames: Iterable[bytes], hook: str = "from-uplink", cut: int = 0) -> list[Replayed]:
        records = [Record(1, ETHERNET, one[: len(one) - cut], len(one)) for one in frames]
        return list(Replay(node, hook).run(records))

    return replay


def sent(replayed: Iterable[Replayed]) -> list[bytes]:
    return [one.sent.data for one in replayed if one.sent]


def verdict(one: Replayed) -> Verdict | None:
    return one.outcome.verdict if one.outcome else None


def ends(frame: bytes) -> tuple[tuple[str, int], tuple[str, int]]:
    flow = read(frame)
    source, destination = (".".join(map(str, a[12:])) for a in (flow.source, flow.destination))
    return (source, flow.source_port), (destination, flow.destination_port)


def assert_sums_are_right(frame: bytes) -> None:
    (length,) = struct.unpack_from("!H", frame, 16)
    assert length == len(frame) - 14
    assert checksum(frame[14:34]) == 0
    pseudo = frame[26:34] + struct.pack("!BBH", 0, frame[23], length - 20)
    assert checksum(pseudo + frame[34:]) == 0


def with_payload(frame: bytes, payload: bytes) -> bytes:
    """An IPv4 packet with TCP that has no options, with more payload and right checksums."""
    whole = bytearray(frame + payload)
    struct.pack_into("!H", whole, 16, len(whole) - 14)
    for at in (24, 50):
        struct.pack_into("!H", whole, at, 0)
    struct.pack_into("!H", whole, 24, checksum(bytes(whole[14:34])))
    pseudo = bytes(whole[26:34]) + struct.pack("!BBH", 0, 6, len(whole) - 34)
    struct.pack_into("!H", whole, 50, checksum(pseudo + bytes(whole[34:])))
    return bytes(whole)


def test_a_connection_and_its_answer(replay: Run) -> None:
    first, second = replay([SYN, SYN_ACK])
    assert (first.answer, verdict(first)) == (Answer.DNAT, Verdict.TO_POD)
    assert first.service == Service("default/web", "80", "10.244.1.5:8080")
    assert (second.answer, second.service) == (Answer.DNAT, first.service)
    packets = sent([first, second])
    assert [ends(one) for one in packets] == [
        ((CLIENT, 4000), BACKEND),
        (NODE_PORT, (CLIENT, 4000)),
    ]
    for one in packets:
        assert_sums_are_right(one)


def test_flows_build_up(replay: Run) -> None:
    """An answer is translated back only once its connection has been seen."""
    before, _, after = replay([SYN_ACK, SYN, SYN_ACK])
    assert (before.answer, before.translated) == (Answer.ACCEPT, False)
    assert after.after
    assert (after.answer, after.after.source_port) == (Answer.DNAT, 30080)


def test_what_is_dropped_does_not_leave(replay: Run) -> None:
    forged = packet(("198.51.100.7", 53), ("10.244.2.9", 4000), Protocol.UDP)
    own = packet(("10.244.1.5", 53), ("10.244.2.9", 4000), Protocol.UDP)
    dropped, passed = replay([forged, own], "from-pod=web-0")
    assert (dropped.answer, verdict(dropped)) == (Answer.DROP, Verdict.DROP_FOREIGN_SOURCE)
    assert (passed.answer, verdict(passed)) == (Answer.ACCEPT, Verdict.TO_NETWORK)
    assert [one[26:34] for one in sent([dropped, passed])] == [own[26:34]]


def test_a_rejected_packet_is_answered(replay: Run) -> None:
    (told,) = replay([packet((CLIENT, 4000), ("10.96.0.10", 81))])
    assert (told.answer, told.why) == (Answer.REJECT, "the ClusterIP has no such port")
    (answer,) = sent([told])
    assert (answer[30:34], answer[34:36]) == (parse_address(CLIENT)[12:], b"\x03\x03")


def test_a_long_packet_is_whole_again(replay: Run) -> None:
    """A test run takes a page; joined segments have up to 64 KiB."""
    payload = bytes(range(256)) * 200
    (told,) = replay([with_payload(SYN, payload)])
    assert verdict(told) == Verdict.TO_POD
    (whole,) = sent([told])
    assert whole[54:] == payload
    assert_sums_are_right(whole)


def test_what_a_capture_cut_off_stays_off(replay: Run) -> None:
    udp = packet((CLIENT, 4000), (NODES["node1"], 9), Protocol.UDP)
    told = replay([udp], cut=6)
    assert (told[0].answer, sent(told)) == (Answer.ACCEPT, [udp[:-6]])


def test_what_is_too_short_gets_a_line(replay: Run) -> None:
    short, after = replay([b"abc", NOBODYS])
    assert (short.answer, short.sent) == (None, None)
    assert short.why.startswith("3 bytes: a test run takes 34 at least")
    assert after.answer == Answer.ACCEPT


def run(manifests: Path, capture: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
    argv = [KUBYPASS, "trace", "--manifests", str(manifests), "--node", "node1", "--pcap", "-"]
    return subprocess.run([*argv, *more], input=capture, capture_output=True, check=False)


def test_lines_and_a_capture(manifests: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    answer = run(manifests, pcap([SYN, NOBODYS])[:-4], "-o", str(out))
    first, second, total = answer.stdout.decode().splitlines()
    assert (
        first.split()
        == (
            f"1 0.000000 TCP {CLIENT}:4000 -> 192.168.1.11:30080: translated: default/web:80 by "
            f"10.244.1.5:8080; now {CLIENT}:4000 -> 10.244.1.5:8080; to a pod"
        ).split()
    )
    assert second.endswith("not run: the file ends within a record")
    assert total == "2 packets: 1 translated, 1 not run"
    assert [ends(one) for one in frames_of(out)] == [((CLIENT, 4000), BACKEND)]
    assert answer.returncode == 1


def test_a_reader_that_goes_away_is_no_fault_of_the_capture(
    manifests: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "in.pcap"
    capture.write_bytes(pcap([SYN] * 10))
    reading, writing = os.pipe()
    os.close(reading)
    more = ["--node", "node1", "--pcap", str(capture), "-o", str(tmp_path / "out.pcap")]
    argv = [KUBYPASS, "trace", "--manifests", str(manifests), *more]
    answer = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert answer.returncode == 128 + signal.SIGPIPE
    assert "Broken pipe" not in answer.stderr


def test_lines_of_json(manifests: Path) -> None:
    answer = run(manifests, pcap([NOBODYS]), "-o", "json", "--hook", "to-uplink")
    (line,) = answer.stdout.splitlines()
    told = json.loads(line)
    assert (told["number"], told["verdict"], told["program"]) == (1, "accept", "to_uplink")
    assert answer.returncode == 0


@pytest.mark.parametrize(
    ("capture", "more", "error"),
    [
        (b"", [], "--pcap -: it is no capture: expected pcap or pcapng, found an empty file"),
        (b"", ["--hook", "xdp"], "--hook xdp: expected from-uplink"),
        (b"", ["--hook", "from-pod=away"], "--hook from-pod=away: it is on node node2"),
        (b"", ["--to", "node1:80"], "--pcap: not together with --from or --to"),
        (b"", ["-o", "yaml"], "expected text, json or FILE.pcap, found 'yaml'"),
    ],
)
def test_a_wrong_word_is_an_error(
    manifests: Path, capture: bytes, more: list[str], error: str
) -> None:
    answer = run(manifests, capture, *more)
    text = answer.stderr.decode()
    assert (answer.returncode, len(errors(text)) <= 1 or "usage:" in text) == (2, True)
    assert error in text
