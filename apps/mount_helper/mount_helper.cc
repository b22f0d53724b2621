// mount.oxmem SOURCE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]: how mount(8) calls the
// helper of a file system type. SOURCE may be several, with blanks between (\040 in fstab).
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "apps/common/cli.h"
#include "apps/mount/keeper_command.h"
#include "apps/mount/mount_run.h"
#include "apps/mount/remount.h"

namespace oxmem::apps {
namespace {

constexpr char kProgram[] = "mount.oxmem";
constexpr char kUsage[] = "usage: mount.oxmem SOURCE DIR [-o OPTIONS] (see oxmem mount --help)";

int Main(int argc, char** argv) {
  std::vector<std::string> words;
  std::vector<std::string> options;
  bool fake = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool takes_value = word == "-o" || word == "-t" || word == "-N";
    if (takes_value && i + 1 == argc) {
      return Fail(kProgram, absl::InvalidArgumentError(word + " needs a value"));
    }
    if (takes_value) {
      const std::string value = argv[++i];
      if (word == "-o") options.push_back(value);
      if (word == "-N") {
        return Fail(kProgram, absl::InvalidArgumentError(
                                  "-N: mounting into another namespace is not there; use nsenter"));
      }
    } else if (word == "-h" || word == "--help") {
      std::puts(kUsage);
      return kExitDone;
    } else if (word.size() > 1 && word[0] == '-') {
      if (word.find_first_not_of("-sfnvwr") != std::string::npos) {
        return Fail(kProgram, absl::InvalidArgumentError(word + ": there is no such option"));
      }
      fake |= word.find('f') != std::string::npos;
      if (word.find('r') != std::string::npos) options.emplace_back("ro");
    } else {
      words.push_back(word);
    }
  }
  if (words.size() != 2) {
    return Fail(kProgram, absl::InvalidArgumentError(kUsage));
  }
  const std::string directory = words[1];
  if (AsksForRemount(options)) {
    // mount(8) gives all that is to hold, and exec by saying nothing.
    options.insert(options.begin(), "exec");
    return fake ? kExitDone : RemountCommand(kProgram, words[0], directory, options);
  }
  words = absl::StrSplit(words[0], ' ', absl::SkipEmpty());
  // What fstab writes where there is nothing to name.
  if (words == std::vector<std::string>{"none"}) words.clear();
  words.push_back(directory);
  const absl::StatusOr<MountSpec> spec = ParseMountSpec(words, options);
  if (fake) {
    return spec.ok() ? kExitDone : Fail(kProgram, spec.status());
  }
  return MountCommand(kProgram, spec, /*foreground=*/false);
}

}  // namespace
}  // namespace oxmem::apps

int main(int argc, char** argv) {
  oxmem::apps::OpenStandardDescriptors();
  oxmem::apps::SetUpSignals();
  oxmem::apps::BecomeKeeperIfAsked(argc, argv);
  return oxmem::apps::Main(argc, argv);
}
