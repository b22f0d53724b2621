#!/usr/bin/env python3
"""Each rule of tidy.py finds what it is for, and lets the allowed form through."""
import unittest

import tidy


def violations(path, text):
    return [message for _, message in tidy.check_file(path, text.split("\n"))]


class TidyTest(unittest.TestCase):
    def test_an_arrow_against_the_direction_is_found(self):
        self.assertTrue(any("must not include fs/volume" in v for v in violations(
            "transport/api/x.cc", '#include "fs/volume/volume.h"')))
        self.assertTrue(any("must not include oxmem/channel" in v for v in violations(
            "fs/fuse/x.cc", '#include "oxmem/channel/channel.h"')))

    def test_an_arrow_of_the_table_passes(self):
        self.assertEqual([], violations("oxmem/tloe/x.cc", '#include "oxmem/tilelink/message.h"'))

    def test_an_unknown_folder_is_found(self):
        self.assertTrue(violations("oxmem/misc/x.cc", ""))

    def test_a_long_file_function_and_line_are_found(self):
        self.assertTrue(violations("apps/x.cc", "\n" * 900))
        body = "void F() {\n" + "  f();\n" * 80 + "}"
        self.assertTrue(any("function of" in v for v in violations("apps/x.cc", body)))
        self.assertTrue(any("columns" in v for v in violations("apps/x.cc", "x" * 101)))

    def test_a_short_function_passes(self):
        self.assertEqual([], violations("apps/x.cc", "void F() {\n  f();\n}"))

    def test_a_clock_in_a_protocol_machine_is_found(self):
        self.assertTrue(any("pure" in v for v in violations("oxmem/tloe/x.cc", "auto t = Now();")))
        self.assertTrue(any("pure" in v for v in violations("rdma/nex/qp/x.cc", "auto t = Now();")))
        self.assertTrue(any("pure" in v for v in violations("rdma/nex/wire.cc", "auto t = Now();")))
        self.assertEqual([], violations("oxmem/channel/x.cc", "auto t = Now();"))
        self.assertEqual([], violations("rdma/nex/stream.cc", "auto t = Now();"))

    def test_a_wrong_guard_is_found(self):
        self.assertTrue(any("guard" in v for v in violations("apps/x.h", "#ifndef X_H\n#define X_H")))

    def test_banned_calls_are_found(self):
        self.assertTrue(violations("apps/x.cc", "strcpy(a, b);"))


if __name__ == "__main__":
    unittest.main()
