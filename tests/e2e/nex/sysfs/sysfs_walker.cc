// Looks at /sys/class/infiniband by every way of the C and C++ libraries that programs use, and
// prints what each found, one line each. The device's name is the argument.
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

const std::string kFolder = "/sys/class/infiniband";

void Print(const char* way, std::vector<std::string> found) {
  std::sort(found.begin(), found.end());
  std::printf("%s:", way);
  for (const std::string& one : found) std::printf(" %s", one.c_str());
  std::printf("\n");
}

std::vector<std::string> Names(DIR* folder) {
  std::vector<std::string> names;
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(folder);
  return names;
}

std::string Text(int fd) {
  char text[256];
  const ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof text);
  if (fd >= 0) close(fd);
  std::string all(text, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  while (!all.empty() && all.back() == '\n') all.pop_back();
  std::replace(all.begin(), all.end(), ' ', '_');
  return all;
}

std::vector<std::string> Scan() {
  dirent** list = nullptr;
  std::vector<std::string> names;
  const auto visible = [](const dirent* entry) { return entry->d_name[0] == '.' ? 0 : 1; };
  const int count = scandir(kFolder.c_str(), &list, visible, alphasort);
  for (int i = 0; i < count; ++i) {
    names.emplace_back(list[i]->d_name);
    free(list[i]);
  }
  if (count >= 0) free(list);
  return names;
}

std::vector<std::string> Glob(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (std::size_t i = 0; i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
  }
  globfree(&found);
  return paths;
}

}  // namespace

int main(int, char** arguments) {
  const std::string name = arguments[1];
  const std::string device = kFolder + "/" + name;
  Print("opendir", Names(opendir(kFolder.c_str())));
  const int folder = openat(-1, kFolder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Print("openat", {Text(openat(folder, (name + "/node_type").c_str(), O_RDONLY))});
  const int inner = openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY);
  Print("openat twice", {Text(openat(inner, "ports/1/../1/state", O_RDONLY))});
  struct stat named{}, held{};
  const bool same = fstatat(folder, name.c_str(), &named, 0) == 0 && fstat(inner, &held) == 0 &&
                    S_ISDIR(named.st_mode) && S_ISDIR(held.st_mode) && named.st_ino == held.st_ino;
  Print("fstatat", {same ? "same" : "other"});
  Print("faccessat", {faccessat(inner, "ports/1/gids/0", R_OK, 0) == 0 ? "yes" : "no",
                      faccessat(inner, "ports/9", R_OK, 0) == 0 ? "yes" : "no",
                      faccessat(inner, "../../../etc/passwd", R_OK, 0) == 0 ? "yes" : "no"});
  Print("fdopendir", Names(fdopendir(inner)));
  Print("closed", {fcntl(inner, F_GETFD) == -1 ? "yes" : "no"});
  close(folder);
  Print("scandir", Scan());
  Print("glob", Glob(kFolder + "/*/ports/*/gid_attrs/types/*"));
  char path[PATH_MAX];
  char* real = realpath((device + "//ports/./1").c_str(), nullptr);
  Print("realpath", {real != nullptr ? real : "none"});
  free(real);
  Print("readlink", {readlink((device + "/device").c_str(), path, sizeof path) < 0 ? "no" : "yes"});
  std::ifstream stream(device + "/ports/1/link_layer");
  std::string word;
  stream >> word;
  Print("ifstream", {word});
  std::vector<std::string> walked;
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(device, error)) {
    if (entry.is_regular_file() && entry.path().filename() == "0") {
      walked.push_back(entry.path().lexically_relative(device).string());
    }
  }
  Print("recursive_directory_iterator", walked);
  return 0;
}
