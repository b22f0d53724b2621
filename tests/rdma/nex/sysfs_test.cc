#include "rdma/nex/sysfs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace oxmem::nex {
namespace {

using testing::Contains;
using testing::ElementsAre;

SysfsDevice TwoAddresses() {
  SysfsDevice device;
  device.name = "nex0";
  device.node_guid = 0x0200ffff7f000001;
  device.firmware = "1.0.0";
  device.lid = 1;
  device.addresses.resize(3);
  EXPECT_TRUE(ParseAddress("127.0.0.1", &device.addresses[0].gid));
  EXPECT_TRUE(ParseAddress("fd45::1", &device.addresses[1].gid));
  device.addresses[0].interface = "lo";
  device.addresses[1].interface = device.addresses[2].interface = "eth1";
  return device;
}

std::string TextAt(const std::string& path) {
  const auto entry = FindSysfs(TwoAddresses(), "/sys/class/infiniband/nex0/" + path);
  return entry && !entry->folder ? entry->text : "nothing";
}

std::vector<std::string> NamesAt(const std::string& path) {
  const auto entry = FindSysfs(TwoAddresses(), "/sys/class/infiniband" + path);
  return entry && entry->folder ? entry->names : std::vector<std::string>{"nothing"};
}

TEST(Sysfs, GidsHaveTheirTextKindAndInterface) {
  EXPECT_EQ("0000:0000:0000:0000:0000:ffff:7f00:0001\n", TextAt("ports/1/gids/0"));
  EXPECT_EQ("fd45:0000:0000:0000:0000:0000:0000:0001\n", TextAt("ports/1/gids/1"));
  EXPECT_EQ("RoCE v2\n", TextAt("ports/1/gid_attrs/types/1"));
  EXPECT_EQ("lo\n", TextAt("ports/1/gid_attrs/ndevs/0"));
  EXPECT_EQ("eth1\n", TextAt("ports/1/gid_attrs/ndevs/1"));
  EXPECT_EQ("0200:ffff:7f00:0001\n", TextAt("node_guid"));
}

TEST(Sysfs, NetworkInterfacesAreListedOnce) {
  EXPECT_THAT(NamesAt("/nex0/device/net/"), ElementsAre("lo", "eth1"));
  EXPECT_THAT(NamesAt("/nex0/device/net/eth1"), ElementsAre());
}

TEST(Sysfs, PathsMayGoBack) {
  EXPECT_EQ("4: ACTIVE\n", TextAt("./ports//1/../1/state"));
  EXPECT_EQ("1: CA\n", TextAt("../nex0/node_type"));
  EXPECT_EQ("/sys/class/infiniband/nex0", CleanSysfsPath("/sys//class/./infiniband/x/../nex0/"));
  EXPECT_EQ("/etc", CleanSysfsPath("/sys/../../etc"));
  EXPECT_TRUE(IsSysfsFolder("/sys/class/infiniband/nex0/.."));
  EXPECT_FALSE(IsSysfsFolder("/sys/class/infiniband/nex0"));
}

TEST(Sysfs, WhatIsNotThereIsNothing) {
  for (const char* path : {"ports/2/state", "ports/1/gids/3", "ports/1/gids/00", "ports/1/gids/-1",
                           "ports/1/pkeys/1", "device/net/eth2", "device/net/lo/x", "fw_ver/x",
                           "ports/1/gid_attrs/types/0/x", "nothing"}) {
    EXPECT_EQ("nothing", TextAt(path)) << path;
    EXPECT_THAT(NamesAt(std::string("/nex0/") + path), ElementsAre("nothing")) << path;
  }
  EXPECT_FALSE(FindSysfs(TwoAddresses(), "/sys/class/infiniband/mlx5_0"));
  EXPECT_FALSE(FindSysfs(TwoAddresses(), "sys/class/infiniband/nex0"));
  EXPECT_FALSE(MayBeSysfs("/proc/self/infiniband"));
  EXPECT_FALSE(MayBeSysfs(nullptr));
}

// Every name that a folder lists leads somewhere.
void Walk(const std::string& path, int* files) {
  const auto entry = FindSysfs(TwoAddresses(), path);
  ASSERT_TRUE(entry) << path;
  if (!entry->folder) {
    ++*files;
    EXPECT_EQ('\n', entry->text.back()) << path;
    return;
  }
  for (const std::string& name : entry->names) Walk(path + "//./" + name, files);
}

TEST(Sysfs, EveryListedNameCanBeOpened) {
  int files = 0;
  Walk("/sys/class/infiniband", &files);
  EXPECT_GT(files, 20);
  EXPECT_THAT(NamesAt(""), Contains("nex0"));
}

}  // namespace
}  // namespace oxmem::nex
