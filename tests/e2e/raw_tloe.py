"""TLoE by hand: frames made word by word and sent from a raw socket, for peers that misbehave.

The numbers are those of docs/wire-format.md.
"""
import ctypes
import os
import select
import socket
import struct
import time

ETHER_TYPE = 0xaaaa
NORMAL, ACK_ONLY, OPEN, CLOSE = range(4)
A, B, C, D, E = range(1, 6)
PUT_FULL, PUT_PARTIAL, ARITHMETIC, LOGICAL, GET, INTENT = range(6)
ACCESS_ACK, ACCESS_ACK_DATA, HINT_ACK = range(3)
NUMBERS = 1 << 22
NONE = NUMBERS - 1  # acknowledges nothing

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def header(kind=NORMAL, seq=0, ack_seq=NONE, ack=1, channel=0, credit=0, vc=0):
    return (vc << 61 | kind << 57 | (seq % NUMBERS) << 32 | (ack_seq % NUMBERS) << 10 | ack << 9 |
            channel << 5 | credit)


def message(channel, opcode, size=0, source=0, param=0, denied=0, corrupt=0):
    return (channel << 60 | opcode << 57 | param << 52 | size << 48 | denied << 39 | corrupt << 38 |
            source)


def pack(words):
    return b"".join(struct.pack(">Q", word & (1 << 64) - 1) for word in words)


def frame(head, flits=(), mask=0, padded=True):
    flits = list(flits)
    if padded:
        flits += [0] * (5 - len(flits))
    return pack([head, *flits, mask])


def get(address, size=6, source=1):
    return [message(A, GET, size, source), address]


def put(address, words, size=6, source=1):
    return [message(A, PUT_FULL, size, source), address, *words]


def fetch_add(address, value, source=1):
    return [message(A, ARITHMETIC, 3, source, param=4), address, value]


class Frame:
    """A received one, taken apart."""

    def __init__(self, data, source):
        self.data, self.source = data, source
        words = [struct.unpack_from(">Q", data, i)[0] for i in range(0, len(data) - 7, 8)]
        head = words[0]
        self.vc, self.kind, self.seq = head >> 61, head >> 57 & 15, head >> 32 & NUMBERS - 1
        self.ack_seq, self.ack = head >> 10 & NUMBERS - 1, head >> 9 & 1
        self.channel, self.credit = head >> 5 & 7, head & 31
        self.flits, self.mask = words[1:-1], words[-1]

    def messages(self):
        """(channel, opcode, size, source, denied, corrupt, flits behind the header) of each."""
        starts = [i for i in range(64) if self.mask >> i & 1]
        for start, end in zip(starts, [*starts[1:], len(self.flits)]):
            head = self.flits[start]
            yield (head >> 60 & 7, head >> 57 & 7, head >> 48 & 15, head & (1 << 26) - 1,
                   head >> 39 & 1, head >> 38 & 1, self.flits[start + 1:end])

    def __repr__(self):
        return (f"Frame(kind={self.kind} seq={self.seq} ack_seq={self.ack_seq} ack={self.ack} "
                f"channel={self.channel} credit={self.credit} {list(self.messages())})")


def _mac(text):
    return bytes.fromhex(text.replace(":", ""))


class Wire:
    """Raw Ethernet on v0 of a namespace. It sees every frame for `mac`, and sends from it."""

    def __init__(self, space, mac, peer):
        self.mac, self.peer = _mac(mac), _mac(peer)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{space.pid}/ns/net", os.O_RDONLY)
        try:
            self._enter(there)
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(("v0", 3))
        finally:
            self._enter(home)
            os.close(home)
            os.close(there)
        # Frames for other addresses than the interface's come in too.
        membership = struct.pack("iHH8s", socket.if_nametoindex("lo") and self._index(), 1, 0, b"")
        self.socket.setsockopt(263, 1, membership)

    @staticmethod
    def _enter(fd):
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def _index(self):
        request = struct.pack("16sI12x", b"v0", 0)
        import fcntl
        return struct.unpack("16sI12x", fcntl.ioctl(self.socket, 0x8933, request))[1]

    def send(self, payload, source=None, ether_type=ETHER_TYPE, tag=b""):
        self.socket.send(self.peer + (source or self.mac) + tag + struct.pack(">H", ether_type) +
                         payload)

    def receive(self, seconds=1.0, source=None):
        """The next frame for this end from the peer; None when none comes in time."""
        until = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self.socket], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            data, address = self.socket.recvfrom(65536)
            if address[2] == 4 or len(data) < 14 + 24:  # our own
                continue
            if data[:6] != (source or self.mac) or data[6:12] != self.peer:
                continue
            if struct.unpack(">H", data[12:14])[0] == ETHER_TYPE:
                return Frame(data[14:], data[6:12])

    def drain(self, seconds=0.1):
        frames = []
        while (one := self.receive(seconds)) is not None:
            frames.append(one)
        return frames

    def close(self):
        self.socket.close()


class Requester:
    """A requester of 1.1 that keeps the rules, so far as its user lets it."""

    def __init__(self, wire, vc=0):
        self.wire, self.vc = wire, vc
        self.next = 0
        self.last = NONE  # received in order

    def send_frame(self, flits=(), mask=0, kind=NORMAL, **fields):
        fields.setdefault("seq", self.next)
        fields.setdefault("ack_seq", self.last)
        self.wire.send(frame(header(kind, vc=self.vc, **fields), flits, mask))

    def open(self, d_credit=16):
        self.next, self.last = 0, NONE
        until = time.monotonic() + 5
        while self.last != 4 and time.monotonic() < until:
            # The first one over a connection that has just begun may be an old one for the node.
            self.send_frame(kind=OPEN, seq=0, ack_seq=NONE, channel=A, credit=12)
            self._await_grants(0.5)
        self.next = 1
        assert self.last == 4, "the node did not answer the opening"
        if d_credit is not None:
            self.send(channel=D, credit=d_credit)

    def _await_grants(self, seconds):
        until = time.monotonic() + seconds
        while self.last != 4:
            one = self.wire.receive(max(0.0, until - time.monotonic()))
            if one is None:
                return
            if one.kind == NORMAL and one.vc == self.vc and one.seq == (self.last + 1) % NUMBERS:
                self.last = one.seq

    def send(self, flits=(), mask=0, **fields):
        """A frame in order."""
        self.send_frame(flits, mask, **fields)
        self.next = (self.next + 1) % NUMBERS

    def acknowledge(self):
        self.send_frame(kind=ACK_ONLY)

    def answers(self, count=1, seconds=2.0):
        """The messages of the next frames in order, at least so many, acknowledged."""
        messages = []
        until = time.monotonic() + seconds
        while len(messages) < count:
            one = self.wire.receive(max(0.0, until - time.monotonic()))
            if one is None:
                return messages
            if one.kind == NORMAL and one.vc == self.vc and one.seq == (self.last + 1) % NUMBERS:
                self.last = one.seq
                messages += list(one.messages())
        self.acknowledge()
        return messages

    def settle(self, seconds=0.1):
        """Takes and acknowledges what comes, until nothing does. Returns it."""
        frames = []
        while (one := self.wire.receive(seconds)) is not None:
            frames.append(one)
            self._take(one)
        return frames

    def sync(self):
        """Waits until everything sent in order is acknowledged: nothing that comes next is lost."""
        until = time.monotonic() + 5
        while (one := self.wire.receive(max(0.0, until - time.monotonic()))) is not None:
            self._take(one)
            if one.vc == self.vc and one.ack_seq == (self.next - 1) % NUMBERS:
                return
        raise AssertionError(f"frame {self.next - 1} was not acknowledged")

    def _take(self, one):
        if one.kind == NORMAL and one.vc == self.vc and one.seq == (self.last + 1) % NUMBERS:
            self.last = one.seq
            self.acknowledge()

    def read(self, address, size=6, source=1):
        self.send(get(address, size, source), 1)
        return self.answers()
