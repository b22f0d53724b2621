"""What a node withstands from peers that break every rule: it goes on, and serves the others."""
import struct
import unittest

import oxmem_e2e
import raw_tloe
from oxmem_e2e import CLIENT_MAC, E2eTest, NODE_MAC
from raw_tloe import (A, ACCESS_ACK, ACCESS_ACK_DATA, ACK_ONLY, B, C, CLOSE, D, E, GET, NONE, OPEN,
                      NORMAL, NUMBERS, PUT_FULL, fetch_add, frame, get, header, message, put)

HOSTILE_MAC = "02:00:00:00:00:66"


class HostileRequesters(E2eTest):
    def setUp(self):
        super().setUp()
        self.net = self.net()
        self.process = self.node(self.net)
        self.wire = raw_tloe.Wire(self.net.client, HOSTILE_MAC, NODE_MAC)
        self.addCleanup(self.wire.close)
        self.peer = raw_tloe.Requester(self.wire)

    def tearDown(self):
        # Whatever happened: the node is there, and answers others at once.
        result = self.check("ping", f"{self.net.source}?size=64M&connect_timeout=1s&timeout=1s", "-c",
                            "3", "-i", "0.01", space=self.net.client)
        self.assertIn("3 sent, 3 answered", result.out)
        self.process.signal(15)
        self.assertEqual(self.process.wait(), 0)
        self.assertNotRegex(self.process.err, r"(?i)sanitizer|check failed")

    def counters(self):
        sums = {}
        for process in self.check("stats", "--json").json:
            for part in process["parts"]:
                for name, value in part.get("counters", {}).items():
                    sums[name] = sums.get(name, 0) + value
        return sums

    def assert_works(self, source=9):
        self.assertEqual([m[:4] for m in self.peer.read(0x1000, 6, source)],
                         [(D, ACCESS_ACK_DATA, 6, source)])

    def denied(self, flits, mask, count=1):
        """Sends a frame with something malformed, which is asked for again and then answered."""
        self.peer.send_frame(flits, mask)
        nak = self.wire.receive()
        self.assertEqual((nak.ack, nak.ack_seq), (0, (self.peer.next - 1) % NUMBERS), nak)
        self.peer.send(flits, mask)
        return self.peer.answers(count)

    def test_a_request_that_is_not_all_there_is_denied(self):
        self.peer.open()
        self.assertEqual(self.denied([message(A, PUT_FULL, 9, 7), 0x200, 1, 2, 3], 1),
                         [(D, ACCESS_ACK, 9, 7, 1, 0, [0] * 4)])
        answer = self.denied([message(A, GET, 6, 8)] + [0] * 3 + [message(A, GET, 5, 9)], 0b10000)[0]
        self.assertEqual(answer[:6], (D, ACCESS_ACK_DATA, 5, 9, 1, 1))
        self.assert_works()
        self.assertEqual(self.counters()["denied_malformed"], 2)

    def test_what_is_no_message_is_skipped_and_the_rest_answered(self):
        self.peer.open()
        for nonsense in (0, 6 << 60 | 1, 7 << 60 | 1):
            answers = self.denied([nonsense, 0, *get(0, 6, 5)], 0b101)
            self.assertEqual(answers[0][:5], (D, ACCESS_ACK_DATA, 6, 5, 0))
        self.assert_works()

    def test_messages_that_are_no_requests(self):
        self.peer.open()
        for channel, opcodes in ((B, range(8)), (C, range(6)), (D, range(8)), (E, range(8))):
            for opcode in opcodes:
                flits = [message(channel, opcode, 3, 1)] + [0] * 4
                self.peer.send(flits, 1)
                self.peer.send_frame(flits, 1, seq=self.peer.next - 1)  # if it was taken for damaged
                self.peer.settle(0.01)
        self.assert_works()

    def test_requests_out_of_range_misaligned_or_unknown(self):
        self.peer.open()
        last = (1 << 64) - 8
        for flits in (get(64 << 20), get(last, 3), get(last, 15), get((64 << 20) - 32), get(1 << 63, 12),
                      get(0x1001), put(64 << 20, [0] * 8), put(last, [0], 3),
                      fetch_add(64 << 20, 1), [message(A, raw_tloe.ARITHMETIC, 3, 1, param=9), 0, 1],
                      [message(A, raw_tloe.ARITHMETIC, 4, 1, param=4), 0, 1, 1],
                      [message(A, raw_tloe.INTENT, 3, 1, param=9), 0], [message(A, 6, 6, 1), 0],
                      [message(A, 7, 6, 1), 0]):
            self.peer.send(flits, 1)
            answers = self.peer.answers()
            self.assertEqual([(m[0], m[3], m[4]) for m in answers], [(D, 1, 1)], flits)
            self.assertEqual(answers[0][2], flits[0] >> 48 & 15)
        self.assert_works()

    def test_frames_cut_at_every_length(self):
        self.peer.open()
        whole = frame(header(seq=self.peer.next, ack_seq=self.peer.last), put(0, range(8)) + get(0), 0x401)
        for length in range(len(whole)):
            self.wire.send(whole[:length])
        self.peer.settle()
        # What was cut to whole words may have been a frame of its own: the number is gone then.
        self.peer = raw_tloe.Requester(self.wire, vc=1)
        self.peer.open()
        self.assert_works()

    def test_masks_that_name_what_is_not_there(self):
        self.peer.open()
        for bit in range(1, 64):
            self.peer.send_frame(get(0), 1 << bit | 1)
        self.peer.settle()
        self.peer.send(get(0, 6, 3), 1)
        self.assertEqual(self.peer.answers()[0][3], 3)

    def test_a_replayed_request_is_carried_out_once(self):
        self.peer.open()
        for number in range(5):
            seq = self.peer.next
            self.peer.send(fetch_add(0, 1), 1)
            self.assertEqual(self.peer.answers()[0][6][:1], [number])
            for _ in range(10):
                self.peer.send_frame(fetch_add(0, 1), 1, seq=seq)
        for seq in range(self.peer.next):
            self.peer.send_frame(fetch_add(0, 100), 1, seq=seq)
        self.peer.settle()
        self.peer.send(fetch_add(0, 0), 1)
        self.assertEqual(self.peer.answers()[0][6][:1], [5])

    def test_numbers_from_everywhere(self):
        self.peer.open()
        for power in range(22):
            for seq in (self.peer.next + (1 << power), self.peer.next - (1 << power)):
                self.peer.send_frame(put(0, [1] * 8), 1, seq=seq)
                self.peer.send_frame(put(0, [1] * 8), 1, seq=seq, ack_seq=seq, ack=0)
        self.peer.settle()
        answer = self.peer.read(0)[0]
        self.assertEqual(answer[6][:8], [0] * 8, "nothing of it was carried out")

    def test_acknowledgements_of_everything(self):
        self.peer.open()
        for power in range(22):
            self.peer.send_frame(kind=ACK_ONLY, ack_seq=1 << power)
            self.peer.send_frame(kind=ACK_ONLY, ack_seq=-(1 << power), ack=0)
        self.peer.settle()
        self.assert_works()

    def test_a_peer_that_grants_nothing_gets_no_answers_and_holds_nobody_up(self):
        self.peer.open(d_credit=None)
        for source in range(200):
            self.peer.send(get(0, 6, source), 1)
            if source % 32 == 31:
                self.peer.sync()
        self.assertEqual([f for f in self.peer.settle() if f.mask], [])
        self.check("ping", f"{self.net.source}?size=64M", "-c", "3", "-i", "0.01",
                   space=self.net.client)
        # What waited is answered when there is room.
        self.peer.send(channel=D, credit=12)
        self.assertEqual([m[3] for m in self.peer.answers(200)], list(range(200)))

    def test_more_credits_than_numbers_can_hold(self):
        self.peer.open()
        for _ in range(64):
            for channel in range(8):
                self.peer.send(channel=channel, credit=31)
            self.peer.sync()
        self.assert_works()

    def test_more_than_was_granted(self):
        self.peer.open()
        data = put(0, range(64), 9)
        for _ in range(3000):
            self.peer.send_frame(data, 1, seq=self.peer.next)
            self.peer.next += 1
        self.peer.settle()

    def test_closing_in_the_middle_and_opening_again_at_once(self):
        for source in range(20):
            self.peer.open()
            for _ in range(5):
                self.peer.send(get(0, 10, source), 1)
            self.peer.send_frame(kind=CLOSE)
            self.assertTrue(any(f.kind == CLOSE for f in self.wire.drain(0.02)))
        self.peer.open()
        self.assert_works()

    def test_openings_that_are_never_completed_leave_room_for_others(self):
        opening = frame(header(OPEN, channel=A, credit=10))
        for number in range(5000):
            self.wire.send(opening, source=b"\x02\x99" + struct.pack(">I", number))
        # tearDown looks whether another requester gets a connection at once.

    def test_openings_on_every_virtual_channel_again_and_again(self):
        for _ in range(300):
            for vc in range(8):
                self.wire.send(frame(header(OPEN, channel=A, credit=10, vc=vc)))
        self.peer.settle()
        self.peer.open()
        self.assert_works()

    def test_beginnings_of_the_older_protocol_by_the_thousand(self):
        for number in range(3000):
            self.wire.send(frame(header(NORMAL, seq=0, ack_seq=NONE, channel=D, credit=10)),
                           source=b"\x02\x98" + struct.pack(">I", number))

    def test_another_ethertype_and_a_vlan_are_not_for_this_node(self):
        before = self.counters()["frames_received"]
        opening = frame(header(OPEN, channel=A, credit=10))
        self.wire.send(opening, ether_type=0xaaab)
        self.wire.send(opening, ether_type=0x0800)
        for tag in (b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05", b"\x81\x00\x00\x05\x81\x00\x00\x06"):
            self.wire.send(opening, tag=tag)
        self.assertIsNone(self.wire.receive(0.2))
        self.assertEqual(self.counters()["frames_received"], before)

    def test_addresses_that_nobody_can_have_get_no_answer(self):
        opening = frame(header(OPEN, channel=A, credit=10))
        for source in (b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", bytes(6), raw_tloe._mac(NODE_MAC)):
            self.wire.send(opening, source=source)
            self.assertIsNone(self.wire.receive(0.1, source=source), source.hex())
        self.assertEqual(self.counters()["connections_opened"], 0)

    def test_random_bytes(self):
        import random
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        source = random.Random(seed)
        self.peer.open()
        for _ in range(2000):
            self.wire.send(source.randbytes(source.randrange(0, 1500)))
        for _ in range(2000):
            flits = [source.getrandbits(64) for _ in range(source.randrange(0, 40))]
            self.wire.send(frame(source.getrandbits(64), flits, source.getrandbits(40)))
        self.peer.settle()


if __name__ == "__main__":
    oxmem_e2e.main()
