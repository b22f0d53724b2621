#ifndef TESTS_APPS_COMMON_TEMPORARY_DIRECTORY_H_
#define TESTS_APPS_COMMON_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "transport/base/check.h"

namespace oxmem::apps {

// A directory that is gone with the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "oxmem-test-XXXXXX").string();
    OXMEM_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace oxmem::apps

#endif  // TESTS_APPS_COMMON_TEMPORARY_DIRECTORY_H_
