"""What a requester withstands from a node that breaks every rule: one line, in time, and no crash."""
import threading
import time
import unittest

import oxmem_e2e
import raw_tloe
from oxmem_e2e import CLIENT_MAC, E2eTest, NODE_MAC
from raw_tloe import (A, ACCESS_ACK, ACCESS_ACK_DATA, ACK_ONLY, CLOSE, D, GET, HINT_ACK, NONE, NORMAL,
                      NUMBERS, OPEN, message)


class FakeNode:
    """Answers an opening; what a request is answered with is up to `answer`.

    answer(node, source, size) returns (flits, mask) of a frame, or None for silence.
    """

    def __init__(self, wire, answer, a_credit=12, on_open=None):
        self.wire, self.answer, self.a_credit, self.on_open = wire, answer, a_credit, on_open
        self.requests = 0
        self._stop = False
        self._reset()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _reset(self):
        self.next, self.last = 0, NONE

    def send(self, flits=(), mask=0, kind=NORMAL, **fields):
        fields.setdefault("seq", self.next)
        fields.setdefault("ack_seq", self.last)
        self.wire.send(raw_tloe.frame(raw_tloe.header(kind, **fields), flits, mask))
        if kind == NORMAL and fields["seq"] == self.next:
            self.next = (self.next + 1) % NUMBERS

    def _serve(self):
        while not self._stop:
            one = self.wire.receive(0.05)
            if one is not None:
                self._on_frame(one)

    def _on_frame(self, one):
        if one.kind == OPEN:
            self._reset()
            self.last = one.seq
            if self.on_open is not None:
                self.on_open(self)
                return
            self.send(channel=A, credit=self.a_credit) if self.a_credit is not None else self.send()
            for channel in (2, 3, 4, 5):
                self.send(channel=channel, credit=10)
        elif one.kind == CLOSE:
            self.send(kind=CLOSE)
        elif one.kind == NORMAL and one.seq == (self.last + 1) % NUMBERS:
            self.last = one.seq
            answered = False
            for channel, opcode, size, source, *_ in one.messages():
                if channel == A:
                    self.requests += 1
                    what = self.answer(self, source, size)
                    if what is not None:
                        self.send(*what, channel=A, credit=2)
                        answered = True
            if not answered:
                self.send(kind=ACK_ONLY)
        elif one.kind == NORMAL:
            self.send(kind=ACK_ONLY)

    def close(self):
        self._stop = True
        self._thread.join()


def data_answer(source, size, opcode=ACCESS_ACK_DATA, words=None, **bits):
    words = (1 << size) // 8 if words is None else words
    return [message(D, opcode, size, source, **bits)] + [0x1111] * words, 1


class HostileNodes(E2eTest):
    def setUp(self):
        super().setUp()
        self.net = self.net()
        self.source = f"{self.net.source}?size=64M&timeout=500ms&connect_timeout=500ms"

    def fake(self, answer=lambda node, source, size: data_answer(source, size), **more):
        wire = raw_tloe.Wire(self.net.node, NODE_MAC, CLIENT_MAC)
        node = FakeNode(wire, answer, **more)
        self.addCleanup(wire.close)
        self.addCleanup(node.close)
        return node

    def ping(self):
        return self.run_oxmem("ping", self.source, "-c", "3", "-i", "0.01", space=self.net.client,
                              seconds=15)

    def assert_fails(self, pattern, within=5.0):
        result = self.ping()
        self.assertEqual(result.code, 1, result)
        self.assertEqual(result.err.count("\n"), 1, result)
        self.assertRegex(result.err, pattern)
        self.assertLess(result.seconds, within)
        return result

    def test_the_fake_node_can_do_it_right(self):
        self.fake()
        self.assertEqual(self.ping().code, 0)

    def test_answers_to_what_was_never_asked(self):
        def answer(node, source, size):
            for other in (source ^ 1, source + 4096, (1 << 26) - 1, 0x2aaaaaa):
                if other != source:
                    node.send(*data_answer(other, size))
            return data_answer(source, size)
        self.fake(answer)
        self.assertEqual(self.ping().code, 0)

    def test_the_same_answer_again_and_again(self):
        def answer(node, source, size):
            for _ in range(50):
                node.send(*data_answer(source, size))
            return None
        self.fake(answer)
        self.assertEqual(self.ping().code, 0)

    def test_answers_of_the_wrong_size(self):
        for wrong in (0, 3, 5, 7, 12):
            with self.subTest(size=wrong):
                node = self.fake(lambda node, source, size: data_answer(source, wrong))
                self.assert_fails("transport error")
                node.close()

    def test_answers_of_the_wrong_kind(self):
        for opcode in (ACCESS_ACK, HINT_ACK, 4, 6):
            with self.subTest(opcode=opcode):
                node = self.fake(lambda node, source, size: (
                    [message(D, opcode, size, source), 0], 1))
                self.assert_fails("transport error")
                node.close()
        # A grant of a copy, with as much data as was asked for.
        self.fake(lambda node, source, size: (
            [message(D, 5, size, source), 0] + [0x1111] * ((1 << size) // 8), 1))
        self.assert_fails("transport error")

    def test_answers_that_are_not_all_there(self):
        def answer(node, source, size):
            flits, mask = data_answer(source, size, words=5)
            node.send(flits, mask, seq=node.next)
            return flits, mask
        # Damaged on the way or not: it is asked for again, and this node has one frame only.
        def stubborn(node, source, size):
            flits, mask = data_answer(source, size, words=5)
            for _ in range(3):
                node.wire.send(raw_tloe.frame(raw_tloe.header(seq=node.next, ack_seq=node.last), flits,
                                              mask))
            node.next += 1
        self.fake(stubborn)
        self.assert_fails("transport error")

    def test_denied_and_corrupt(self):
        node = self.fake(lambda node, source, size: data_answer(source, size, denied=1, corrupt=1))
        self.assert_fails("denied|refused")
        node.close()
        self.fake(lambda node, source, size: data_answer(source, size, corrupt=1))
        self.assert_fails("damaged|corrupt")

    def test_no_credit_at_all(self):
        node = self.fake(a_credit=None)
        self.assert_fails("timed out")
        self.assertEqual(node.requests, 0)

    def test_more_credit_than_can_be_counted(self):
        def on_open(node):
            for _ in range(5):
                for channel in range(8):
                    node.send(channel=channel, credit=31)
        self.fake(on_open=on_open)
        self.assertEqual(self.ping().code, 0)

    def test_silence_after_the_opening(self):
        self.fake(lambda node, source, size: None)
        self.assert_fails("timed out")

    def test_answers_too_long_for_the_way_are_asked_for_in_shorter_ones(self):
        # As if a switch on the way dropped them: the node has received the request and says so.
        def answer(node, source, size):
            return data_answer(source, size) if size <= 10 else None
        self.fake(answer)
        result = self.run_oxmem("ping", f"{self.net.source}?size=64M&connect_timeout=500ms", "-c", "3",
                                "-i", "0.01", "-s", "8K", space=self.net.client)
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.err, "frames of 8216 bytes do not come from there.*mtu=1500")

    def test_closing_instead_of_answering(self):
        def answer(node, source, size):
            node.send(kind=CLOSE, seq=node.next)
        self.fake(answer)
        self.assert_fails("timed out|closes the connection")

    def test_closing_after_every_opening(self):
        def on_open(node):
            node.send()
            node.send(kind=CLOSE, seq=node.next)
        node = self.fake(on_open=on_open)
        result = self.run_oxmem("ping", f"{self.net.source}?size=64M&timeout=4s", "-c", "1",
                                space=self.net.client, seconds=15)
        self.assertEqual(result.code, 1, result)
        self.assertLessEqual(result.err.count("\n"), 12, result)

    def test_closing_instead_of_opening(self):
        self.fake(on_open=lambda node: node.send(kind=CLOSE, seq=0, ack_seq=0))
        self.assert_fails("no answer|closes the connection")

    def test_answers_that_acknowledge_what_was_never_sent(self):
        def answer(node, source, size):
            for power in range(22):
                node.wire.send(raw_tloe.frame(raw_tloe.header(ACK_ONLY, seq=node.next,
                                                              ack_seq=node.last + (1 << power))))
            return data_answer(source, size)
        self.fake(answer)
        self.assertEqual(self.ping().code, 0)

    def test_numbers_from_everywhere(self):
        def answer(node, source, size):
            for power in range(22):
                node.wire.send(raw_tloe.frame(raw_tloe.header(seq=node.next + (1 << power),
                                                              ack_seq=node.last),
                                              *data_answer(source, size, words=0, opcode=ACCESS_ACK)))
            return data_answer(source, size)
        self.fake(answer)
        self.assertEqual(self.ping().code, 0)

    def test_a_nak_for_every_frame(self):
        def answer(node, source, size):
            for _ in range(100):
                node.wire.send(raw_tloe.frame(raw_tloe.header(ACK_ONLY, seq=node.next,
                                                              ack_seq=node.last - 1, ack=0)))
            return data_answer(source, size)
        self.fake(answer)
        self.assertEqual(self.ping().code, 0)

    def test_an_opening_answered_with_anything(self):
        import random
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        source = random.Random(seed)

        def on_open(node):
            for _ in range(200):
                flits = [source.getrandbits(64) for _ in range(source.randrange(5, 20))]
                node.wire.send(raw_tloe.frame(source.getrandbits(60), flits, source.getrandbits(20)))
        self.fake(on_open=on_open)
        result = self.ping()
        self.assertEqual(result.code, 1, result)
        self.assertLess(result.seconds, 5.0)


if __name__ == "__main__":
    oxmem_e2e.main()
