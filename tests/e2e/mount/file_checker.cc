// Does to a file of fixed size what programs do to files, at random, and compares every byte with a
// model: read, write, both also with O_DIRECT, mapped loads and stores, msync, fsync, punched and
// zeroed ranges, opening again; by several processes, each in a part of its own.
//
//   file_checker FILE [--seed N] [--operations N] [--processes N] [--no-direct]
//
// Prints the seed; exits with 1 and one line at the first wrong byte or failed call.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "transport/base/size.h"

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLongest = 300000;

struct Settings {
  std::string file;
  uint64_t seed = 1;
  uint64_t operations = 1000;
  uint64_t processes = 1;
  bool direct = true;
};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "file_checker: %s\n", what.c_str());
  std::_Exit(1);
}

[[noreturn]] void FailErrno(const std::string& what) { Fail(what + ": " + std::strerror(errno)); }

// One process at work on [begin, begin + model size) of the file.
class Checker {
 public:
  Checker(const Settings& settings, uint64_t begin, uint64_t length, uint64_t seed)
      : settings_(settings), begin_(begin), model_(length), random_(seed), seed_(seed) {
    if (posix_memalign(&aligned_, kPage, kLongest + 2 * kPage) != 0) Fail("no memory");
    Open();
    const ssize_t got = pread(fd_, model_.data(), model_.size(), Offset(begin_));
    if (got != static_cast<ssize_t>(model_.size())) FailErrno("first read");
  }

  void Run() {
    for (uint64_t i = 0; i < settings_.operations; ++i) {
      number_ = i;
      One();
    }
    if (msync(map_, model_.size(), MS_SYNC) != 0) FailErrno(Where("msync"));
    Reopen();
    CompareRange(0, model_.size());
  }

 private:
  static off_t Offset(uint64_t offset) { return static_cast<off_t>(offset); }

  std::string Where(const char* what) const {
    return std::string(what) + " (operation " + std::to_string(number_) + ", seed " +
           std::to_string(seed_) + ")";
  }

  void Open() {
    fd_ = open(settings_.file.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0) FailErrno(settings_.file);
    if (settings_.direct) direct_ = open(settings_.file.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT);
    if (settings_.direct && direct_ < 0) FailErrno(settings_.file + " with O_DIRECT");
    void* map =
        mmap(nullptr, model_.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, Offset(begin_));
    if (map == MAP_FAILED) FailErrno("mmap");
    map_ = static_cast<unsigned char*>(map);
  }

  void Reopen() {
    munmap(map_, model_.size());
    close(fd_);
    if (direct_ >= 0) close(direct_);
    Open();
  }

  void One() {
    uint64_t at = random_() % model_.size();
    const uint64_t span = random_() % 3 == 0 ? kLongest : 8192;
    uint64_t length = 1 + random_() % std::min(span, model_.size() - at);
    switch (random_() % 14) {
      case 0:
      case 1:
        return CompareRange(at, length);
      case 2:
      case 3:
        return Write(fd_, at, length, Fill(at, length));
      case 4:
      case 5:
        return DirectWrite(at, length);
      case 6:
        return DirectRead(at, length);
      case 7:
      case 8:
        std::memcpy(map_ + at, Fill(at, length), length);
        return;
      case 9:
        return Compare(at, length, map_ + at, "mapped load");
      case 10:
        if (msync(map_, model_.size(), MS_SYNC) != 0) FailErrno(Where("msync"));
        return;
      case 11:
        if (fsync(fd_) != 0) FailErrno(Where("fsync"));
        return;
      case 12:
        return Zero(at, length);
      default:
        if (random_() % 8 == 0) Reopen();
    }
  }

  // New bytes for a range, put into the model and returned.
  const unsigned char* Fill(uint64_t at, uint64_t length) {
    const uint64_t pattern = random_();
    for (uint64_t i = 0; i < length; ++i) {
      model_[at + i] = static_cast<unsigned char>((pattern >> (8 * (i % 8))) + i / 8);
    }
    return model_.data() + at;
  }

  void Write(int fd, uint64_t at, uint64_t length, const void* bytes) {
    const ssize_t put = pwrite(fd, bytes, length, Offset(begin_ + at));
    if (put != static_cast<ssize_t>(length)) FailErrno(Where("write"));
  }

  void DirectWrite(uint64_t at, uint64_t length) {
    if (direct_ < 0) return;
    Align(at, length);
    std::memcpy(aligned_, Fill(at, length), length);
    Write(direct_, at, length, aligned_);
  }

  void DirectRead(uint64_t at, uint64_t length) {
    if (direct_ < 0) return;
    Align(at, length);
    const ssize_t got = pread(direct_, aligned_, length, Offset(begin_ + at));
    if (got != static_cast<ssize_t>(length)) FailErrno(Where("direct read"));
    Compare(at, length, aligned_, "direct read");
  }

  static void Align(uint64_t& at, uint64_t& length) {
    length = std::max(kPage, length / kPage * kPage);
    at = at / kPage * kPage;
    length = std::min(length, kLongest / kPage * kPage);
  }

  void Zero(uint64_t at, uint64_t length) {
    const int mode = random_() % 2 == 0 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                                        : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    if (fallocate(fd_, mode, Offset(begin_ + at), Offset(length)) != 0) {
      FailErrno(Where("fallocate"));
    }
    std::fill_n(model_.begin() + Offset(at), length, 0);
  }

  void CompareRange(uint64_t at, uint64_t length) {
    read_.resize(length);
    const ssize_t got = pread(fd_, read_.data(), length, Offset(begin_ + at));
    if (got != static_cast<ssize_t>(length)) FailErrno(Where("read"));
    Compare(at, length, read_.data(), "read");
  }

  void Compare(uint64_t at, uint64_t length, const void* bytes, const char* how) {
    const auto* found = static_cast<const unsigned char*>(bytes);
    for (uint64_t i = 0; i < length; ++i) {
      if (found[i] == model_[at + i]) continue;
      Fail(Where(how) + ": byte " + std::to_string(begin_ + at + i) + " is " +
           std::to_string(found[i]) + ", not " + std::to_string(model_[at + i]));
    }
  }

  const Settings& settings_;
  uint64_t begin_;
  std::vector<unsigned char> model_;
  std::vector<unsigned char> read_;
  std::mt19937_64 random_;
  uint64_t seed_;
  uint64_t number_ = 0;
  void* aligned_ = nullptr;
  int fd_ = -1;
  int direct_ = -1;
  unsigned char* map_ = nullptr;
};

int Run(const Settings& settings) {
  struct stat attributes;
  if (stat(settings.file.c_str(), &attributes) != 0) FailErrno(settings.file);
  const auto size = static_cast<uint64_t>(attributes.st_size);
  const uint64_t part = size / settings.processes / kPage * kPage;
  if (part < kPage) Fail("the file is too small for so many processes");
  for (uint64_t i = 0; i < settings.processes; ++i) {
    if (fork() != 0) continue;
    Checker(settings, i * part, part, settings.seed + i).Run();
    std::_Exit(0);
  }
  int failed = 0;
  for (int status = 0; wait(&status) > 0;) failed += status == 0 ? 0 : 1;
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--no-direct") {
      settings.direct = false;
    } else if (word.compare(0, 2, "--") != 0) {
      settings.file = word;
    } else if (i + 1 < argc) {
      const auto number = oxmem::ParseNumber(argv[++i]);
      if (!number.ok()) Fail(word + ": not a number");
      if (word == "--seed") settings.seed = *number;
      if (word == "--operations") settings.operations = *number;
      if (word == "--processes") settings.processes = std::max<uint64_t>(1, *number);
    }
  }
  if (settings.file.empty()) Fail("usage: file_checker FILE [--seed N] [--operations N] …");
  std::printf("seed %llu\n", static_cast<unsigned long long>(settings.seed));
  return Run(settings);
}
