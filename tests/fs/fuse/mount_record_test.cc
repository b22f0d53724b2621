#include "fs/fuse/mount_record.h"

#include <unistd.h>

#include <random>

#include "gtest/gtest.h"

namespace oxmem::fs {
namespace {

MountRecord Some() {
  MountRecord record;
  record.directory = "/mnt/oxmem";
  record.device = "0-45";
  record.options = "rw,dax=auto";
  record.uid = 7;
  record.gid = 8;
  record.umask = 077;
  record.read_ahead_bytes = uint64_t{1} << 33;
  record.words = {"source=mem:?size=1M", "ro=", ""};
  record.init_request.assign(104, std::byte{7});
  record.init_answer.assign(64, std::byte{9});
  record.files.push_back({.name = "data",
                          .source = "mem:?size=1M",
                          .size_bytes = uint64_t{1} << 50,
                          .read_only = true,
                          .mode = FileMode::kPassthrough,
                          .mode_reason = ""});
  record.files.push_back({.name = "two", .source = "", .mode = FileMode::kDirect});
  return record;
}

TEST(MountRecord, IsReadAsItWasWritten) {
  const auto decoded = DecodeMountRecord(EncodeMountRecord(Some()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, Some());
  const auto fd = WriteMountRecord(Some());
  ASSERT_TRUE(fd.ok()) << fd.status();
  const auto read = ReadMountRecord(fd->get());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, Some());
  EXPECT_EQ(pwrite(fd->get(), "x", 1, 0), -1) << "nobody changes it any more";
}

TEST(MountRecord, OfAVersionThatDidNotKnowTheDeviceItIsRead) {
  MountRecord record = Some();
  record.device.clear();
  const std::vector<std::byte> bytes = EncodeMountRecord(record);
  EXPECT_EQ(bytes[11], std::byte{4});
  const auto decoded = DecodeMountRecord(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, record);
}

TEST(MountRecord, OneThatCouldNotBeReadIsNotWritten) {
  MountRecord record = Some();
  record.words.push_back(std::string(1 << 20, 'x'));
  EXPECT_FALSE(WriteMountRecord(record).ok());
}

TEST(MountRecord, EveryPartOfOneIsRefused) {
  std::vector<std::byte> bytes = EncodeMountRecord(Some());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(DecodeMountRecord(std::span(bytes).first(length)).ok()) << length;
  }
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(DecodeMountRecord(bytes).ok());
}

TEST(MountRecord, OfAnotherVersionIsNamed) {
  std::vector<std::byte> bytes = EncodeMountRecord(Some());
  bytes[11] = std::byte{9};
  const auto decoded = DecodeMountRecord(bytes);
  EXPECT_NE(std::string(decoded.status().message()).find("version 9"), std::string::npos);
}

TEST(MountRecord, WrongBytesNeverHarm) {
  std::mt19937 random(1);
  const std::vector<std::byte> right = EncodeMountRecord(Some());
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> bytes = right;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = std::byte(random());
    const auto decoded = DecodeMountRecord(bytes);
    // What is accepted can be written again and says the same.
    if (decoded.ok()) {
      EXPECT_EQ(*DecodeMountRecord(EncodeMountRecord(*decoded)), *decoded);
    }
  }
}

}  // namespace
}  // namespace oxmem::fs
