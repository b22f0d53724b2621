#include "apps/mount/mount_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/apps/common/temporary_directory.h"

namespace oxmem::apps {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

absl::StatusOr<MountSpec> Parse(const std::string& text) {
  return ParseMountConfig("a.conf", text, {});
}

std::string ErrorOf(const std::string& text) {
  const absl::StatusOr<MountSpec> spec = Parse(text);
  return spec.ok() ? "" : std::string(spec.status().message());
}

TEST(MountConfig, AFileIsAMount) {
  const auto spec = Parse(
      "# a comment\n"
      "; another\n"
      "\n"
      "source = mem:?size=1M\n"
      "  source=\"mem:?size=2M mem:?size=3M\"  \n"
      "directory = /mnt/a b\r\n"
      "options = ro,name=first,_netdev\n"
      "timeout = 5s\n"
      "allow_other\n"
      "name = 'second'");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->sources, SizeIs(3));
  EXPECT_EQ(spec->options.directory, "/mnt/a b");
  EXPECT_TRUE(spec->options.read_only);
  EXPECT_TRUE(spec->options.allow_other);
  EXPECT_EQ(spec->options.timeout, Duration::Seconds(5));
  ASSERT_THAT(spec->files, SizeIs(3));
  EXPECT_EQ(spec->files[0].name, "first");
  EXPECT_EQ(spec->files[1].name, "second");
  EXPECT_EQ(spec->files[2].name, "data");
}

TEST(MountConfig, TheKeysThatSystemdReadTooMayBeInCapitals) {
  const auto spec = Parse("SOURCE='mem:?size=1M mem:?size=1M'\nDIRECTORY=/mnt/a\nOPTIONS=\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->sources, SizeIs(2));
}

TEST(MountConfig, OptionsOfTheCommandComeLast) {
  const auto spec = ParseMountConfig(
      "a.conf", "source = mem:\ndirectory = /a\nthreads = 3\ndax = never\n", {"threads=2"});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->threads, 2u);
  EXPECT_EQ(spec->options.dax, fs::Dax::kNever);
}

TEST(MountConfig, AWrongLineIsNamedByFileAndNumber) {
  const std::string good = "source = mem:\ndirectory = /a\n";
  for (const auto& [line, why] : {
           std::pair<const char*, const char*>{"blub = 1",
                                               "there is no key \"blub\" (known: source"},
           {"nofail", "there is no key \"nofail\""},
           {"= 1", "a line is KEY = VALUE"},
           {"two words = 1", "a line is KEY = VALUE"},
           {"dax = 'never", "a quote is not closed"},
           {"dax = some", "dax: \"some\" is not one of"},
           {"options = ro,threads=0", "threads: \"0\" is not a number from 1"},
           {"allow_other = no", "allow_other: it takes no value"},
           {"directory = /b", "there is a directory already"},
           {"source =", "the source is missing"},
           {"source = mem:?size", "mem:"},
           {"\x01\x02", "there is no key"},
       }) {
    EXPECT_THAT(ErrorOf(good + "\n" + line + "\n"), StartsWith("a.conf:4: ")) << line;
    EXPECT_THAT(ErrorOf(good + "\n" + line + "\n"), HasSubstr(why)) << line;
  }
  EXPECT_THAT(ErrorOf("source = mem:\ndirectory = a\n"),
              StartsWith("a.conf:2: the directory must begin with a slash"));
}

TEST(MountConfig, WhatIsMissingIsNamed) {
  EXPECT_THAT(ErrorOf(""), StartsWith("a.conf: a line source = "));
  EXPECT_THAT(ErrorOf("source = mem:"), StartsWith("a.conf: a line directory = "));
  EXPECT_THAT(ErrorOf("source = mem:\ndirectory = /a\noptions = name=a,name=b"),
              StartsWith("a.conf: -o name: 2 names for 1 source"));
}

TEST(MountConfig, NamesArePlacesInTheDirectory) {
  const TemporaryDirectory directory;
  setenv("OXMEM_CONFIG_DIR", directory.path().c_str(), 1);
  EXPECT_EQ(ConfigPath("a"), directory.path() + "/a.conf");
  EXPECT_EQ(ConfigPath("./a"), "./a");
  for (const char* name : {"b.conf", "a.conf", "serve-a.conf", "a.conf.bak", ".c.conf"}) {
    std::fclose(std::fopen((directory.path() + "/" + name).c_str(), "w"));
  }
  const auto paths = AllConfigPaths();
  ASSERT_TRUE(paths.ok()) << paths.status();
  EXPECT_THAT(*paths,
              testing::ElementsAre(directory.path() + "/a.conf", directory.path() + "/b.conf"));
  setenv("OXMEM_CONFIG_DIR", (directory.path() + "/none").c_str(), 1);
  EXPECT_THAT(*AllConfigPaths(), SizeIs(0));
  setenv("OXMEM_CONFIG_DIR", (directory.path() + "/a.conf").c_str(), 1);
  EXPECT_FALSE(AllConfigPaths().ok());
  EXPECT_THAT(std::string(ReadMountConfig(directory.path(), {}).status().message()),
              HasSubstr("is not a regular file"));
  EXPECT_FALSE(ReadMountConfig(directory.path() + "/none.conf", {}).ok());
  unsetenv("OXMEM_CONFIG_DIR");
}

}  // namespace
}  // namespace oxmem::apps
