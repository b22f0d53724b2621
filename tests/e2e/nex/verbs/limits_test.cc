// The largest that a request may be, one more than that, and what nex0 leaves alone.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "tests/e2e/nex/verbs/device.h"
#include "transport/base/unique_fd.h"

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kMostPieces = 16;
constexpr std::uint32_t kMostInline = 512;
constexpr std::size_t kThere = 512 << 10;

class Limits : public VerbsTest {
 protected:
  ibv_qp* Make(std::uint32_t pieces, std::uint32_t bytes_inline) {
    ibv_qp_init_attr init{};
    init.send_cq = init.recv_cq = cq_;
    init.qp_type = IBV_QPT_RC;
    init.sq_sig_all = 1;
    init.cap = {8, 8, pieces, pieces, bytes_inline};
    ibv_qp* qp = ibv_create_qp(pd_, &init);
    if (qp != nullptr) {
      EXPECT_LE(pieces, init.cap.max_send_sge);
      EXPECT_LE(bytes_inline, init.cap.max_inline_data);
      qps_.push_back(qp);
    }
    return qp;
  }
  // Odd lengths at places with gaps between them.
  std::vector<ibv_sge> Pieces(std::size_t from, std::uint32_t count) const {
    std::vector<ibv_sge> pieces;
    for (std::uint32_t i = 0; i < count; ++i) pieces.push_back(Range(from + i * 1000, 97 + i));
    return pieces;
  }
  std::vector<std::byte> Bytes(const std::vector<ibv_sge>& pieces) const {
    std::vector<std::byte> bytes;
    for (const ibv_sge& piece : pieces) {
      const auto* at = reinterpret_cast<const std::byte*>(piece.addr);
      bytes.insert(bytes.end(), at, at + piece.length);
    }
    return bytes;
  }
  void ExpectDone(std::size_t count) {
    const auto done = Wait(cq_, count);
    ASSERT_EQ(count, done.size());
    for (const ibv_wc& wc : done) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  }
};

TEST_F(Limits, SixteenPiecesAreGatheredAndScatteredAndSeventeenRefused) {
  ibv_qp* from = Make(kMostPieces, 0);
  ibv_qp* to = Make(kMostPieces, 0);
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Connect(from, to, {});
  for (std::size_t i = 0; i < kThere; ++i) buffer_[i] = static_cast<std::byte>(i * 7 >> 3);
  const auto source = Pieces(0, kMostPieces);
  auto target = Pieces(kThere + 40000, kMostPieces);
  std::reverse(target.begin(), target.end());
  ASSERT_EQ(0, Receive(to, 7, target));
  ASSERT_EQ(0, Send(from, Wr(1, IBV_WR_SEND), source));
  ExpectDone(2);
  EXPECT_EQ(Bytes(source), Bytes(target));
  // A read scatters, a write gathers.
  ibv_send_wr wr = Wr(2, IBV_WR_RDMA_READ);
  wr.wr.rdma = {At(100000), mr_->rkey};
  const auto read = Pieces(kThere + 80000, kMostPieces);
  ASSERT_EQ(0, Send(from, wr, read));
  ExpectDone(1);
  EXPECT_TRUE(std::equal(buffer_.begin() + 100000,
                         buffer_.begin() + 100000 + static_cast<std::ptrdiff_t>(Bytes(read).size()),
                         Bytes(read).begin()));
  wr.wr_id = 3;
  wr.opcode = IBV_WR_RDMA_WRITE;
  wr.wr.rdma.remote_addr = At(kThere + 200000);
  ASSERT_EQ(0, Send(from, wr, source));
  ExpectDone(1);
  EXPECT_TRUE(std::equal(
      buffer_.begin() + kThere + 200000,
      buffer_.begin() + kThere + 200000 + static_cast<std::ptrdiff_t>(Bytes(source).size()),
      Bytes(source).begin()));

  EXPECT_EQ(EINVAL, Send(from, Wr(4, IBV_WR_SEND), Pieces(0, kMostPieces + 1)));
  EXPECT_EQ(EINVAL, Receive(to, 8, Pieces(kThere, kMostPieces + 1)));
  EXPECT_EQ(nullptr, Make(kMostPieces + 1, 0));
  EXPECT_EQ(EINVAL, errno);
}

TEST_F(Limits, InlineBytesUpTo512NeedNoKeyAndOneMoreIsRefused) {
  ibv_qp* from = Make(2, kMostInline);
  ibv_qp* to = Make(2, 0);
  ASSERT_TRUE(from != nullptr && to != nullptr);
  Connect(from, to, {});
  std::vector<std::byte> own(kMostInline + 1);
  for (std::size_t i = 0; i < own.size(); ++i) own[i] = static_cast<std::byte>(i * 5);
  const auto piece = [&](std::size_t at, std::uint32_t length) {
    return ibv_sge{reinterpret_cast<std::uintptr_t>(own.data() + at), length, 0xdead};
  };
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.send_flags |= IBV_SEND_INLINE;
  ASSERT_EQ(0, Receive(to, 7, {Range(kThere, 1000)}));
  ASSERT_EQ(0, Send(from, wr, {piece(0, 500), piece(500, 12)}));
  const auto before = own;
  std::fill(own.begin(), own.end(), std::byte{0});  // they were taken at once
  ExpectDone(2);
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + kMostInline, buffer_.begin() + kThere));
  EXPECT_EQ(EINVAL, Send(from, wr, {piece(0, 500), piece(500, 13)}));
  EXPECT_EQ(nullptr, Make(1, kMostInline + 1));
  EXPECT_EQ(EINVAL, errno);
}

TEST_F(Limits, ThereAreAsManyObjectsAsTheDeviceSays) {
  ibv_device_attr device;
  ASSERT_EQ(0, ibv_query_device(context_, &device));
  const auto fill = [](const char* kind, int most, auto make, auto destroy) {
    SCOPED_TRACE(kind);
    std::vector<decltype(make())> made;
    const auto limit = static_cast<std::size_t>(most);
    while (made.size() <= limit) {
      errno = 0;
      auto* object = make();
      if (object == nullptr) break;
      made.push_back(object);
    }
    EXPECT_EQ(limit, made.size());
    EXPECT_EQ(ENOMEM, errno);
    EXPECT_EQ(0, destroy(made.back()));
    made.back() = make();
    ASSERT_NE(nullptr, made.back());
    for (auto* object : made) ASSERT_EQ(0, destroy(object));
  };
  // One of the first two is the test's own.
  fill(
      "pd", device.max_pd - 1, [&] { return ibv_alloc_pd(context_); }, ibv_dealloc_pd);
  fill(
      "cq", device.max_cq - 1, [&] { return ibv_create_cq(context_, 1, nullptr, nullptr, 0); },
      ibv_destroy_cq);
  ibv_srq_init_attr srq{};
  srq.attr = {1, 1, 0};
  fill(
      "srq", device.max_srq, [&] { return ibv_create_srq(pd_, &srq); }, ibv_destroy_srq);
  ibv_ah_attr path{};
  path.port_num = 1;
  path.dlid = 1;
  fill(
      "ah", device.max_ah, [&] { return ibv_create_ah(pd_, &path); }, ibv_destroy_ah);
  ibv_qp_init_attr qp{};
  qp.qp_type = IBV_QPT_UD;
  qp.send_cq = qp.recv_cq = cq_;
  qp.cap = {1, 1, 1, 1, 0};
  fill(
      "qp", device.max_qp, [&] { return ibv_create_qp(pd_, &qp); }, ibv_destroy_qp);
}

TEST_F(Limits, AForkChangesNothingForThoseThatAreConnected) {
  if (__has_feature(address_sanitizer)) {
    GTEST_SKIP() << "its allocator may be locked by a thread that is not in the child";
  }
  ibv_qp* from = MakeQp({});
  ibv_qp* to = MakeQp({});
  Connect(from, to, {});
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(0, Receive(to, 7, {Range(kThere, 64)}));
    const pid_t child = fork();
    if (child == 0) exit(0);  // with all that programs do at their end
    ASSERT_EQ(0, Send(from, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
    int status = -1;
    ASSERT_EQ(child, waitpid(child, &status, 0));
    EXPECT_TRUE(WIFEXITED(status)) << status;
    ExpectDone(2);
  }
  EXPECT_FALSE(HasEvent());
}

// The address space of the calling process, and so much more, is all there is.
void LimitMemory(std::size_t more) {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + more;
  setrlimit(RLIMIT_AS, &limit);
}

// How many of `make` there are until there is no memory; 0 when that is not said with ENOMEM.
template <typename Make>
int UntilNoMemory(Make make) {
  for (int made = 0; made < 10000; ++made) {
    errno = 0;
    if (make() == nullptr) return errno == ENOMEM ? made : 0;
  }
  return 0;
}

TEST_F(Limits, WithoutMemoryNothingIsMadeAndTheProgramGoesOn) {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "sanitizers need more address space than can be limited";
#else
  const pid_t child = fork();
  if (child == 0) {
    ibv_device** list = ibv_get_device_list(nullptr);
    ibv_context* own = ibv_open_device(list[0]);
    ibv_device_attr device{};
    int wrong = ibv_query_device(own, &device);
    ibv_pd* pd = ibv_alloc_pd(own);
    ibv_cq* cq = ibv_create_cq(own, 4, nullptr, nullptr, 0);
    LimitMemory(64 << 20);
    wrong += ibv_create_cq(own, device.max_cqe, nullptr, nullptr, 0) != nullptr || errno != ENOMEM;
    wrong += ibv_resize_cq(cq, device.max_cqe) != ENOMEM;
    const auto depth = static_cast<std::uint32_t>(device.max_qp_wr);
    const auto pieces = static_cast<std::uint32_t>(device.max_sge);
    ibv_qp_init_attr init{};
    init.qp_type = IBV_QPT_RC;
    init.send_cq = init.recv_cq = cq;
    std::vector<ibv_qp*> qps;
    qps.reserve(100);
    const int made = UntilNoMemory([&] {
      init.cap = {depth, depth, pieces, pieces, kMostInline};
      ibv_qp* qp = ibv_create_qp(pd, &init);
      if (qp != nullptr) qps.push_back(qp);
      return qp;
    });
    wrong += made == 0;
    ibv_srq_init_attr shared{nullptr, {depth, pieces, 0}};
    UntilNoMemory([&] { return ibv_create_srq(pd, &shared); });
    // What could not be made holds nothing.
    for (ibv_qp* qp : qps) wrong += ibv_destroy_qp(qp) != 0;
    init.cap = {depth, depth, pieces, pieces, kMostInline};
    ibv_qp* qp = ibv_create_qp(pd, &init);
    wrong += qp == nullptr || ibv_destroy_qp(qp) != 0;
    wrong += ibv_destroy_cq(cq) != 0;
    _exit(wrong);
  }
  int status = -1;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(0, WEXITSTATUS(status));
#endif
}

TEST_F(Limits, NobodyListensOnAddressesThatAreNotConfigured) {
  const ibv_qp* qp = MakeQp({});
  sockaddr_in to{};
  to.sin_family = AF_INET;
  const int slot = static_cast<int>(qp->qp_num >> 14);
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(getenv("NEX_PORT")) + slot));
  const auto answers = [&](const char* address) {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    inet_pton(AF_INET, address, &to.sin_addr);
    return connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  };
  EXPECT_TRUE(answers("127.0.0.1"));
  EXPECT_FALSE(answers("127.0.0.2"));
}

// Opens the device in a process with so many descriptors: 0 or the errno.
int OpenWith(rlim_t descriptors) {
  const rlimit limit{descriptors, descriptors};
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
  errno = 0;
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list == nullptr || count == 0) return errno;
  return ibv_open_device(list[0]) != nullptr ? 0 : errno;
}

TEST_F(Limits, WithoutDescriptorsThatIsTheReason) {
  bool opened = false;
  for (rlim_t descriptors = 3; !opened && descriptors < 100; ++descriptors) {
    int code = -1;
    const std::string said = ErrorsOf([&] {
      const pid_t child = fork();
      if (child == 0) _exit(OpenWith(descriptors));
      int status = -1;
      ASSERT_EQ(child, waitpid(child, &status, 0));
      ASSERT_TRUE(WIFEXITED(status)) << status;
      code = WEXITSTATUS(status);
    });
    opened = code == 0;
    if (opened) continue;
    EXPECT_EQ(EMFILE, code) << descriptors << ": " << strerror(code) << "; " << said;
    EXPECT_EQ(std::string::npos, said.find("not an address")) << said;
  }
  EXPECT_TRUE(opened);
}

TEST_F(Limits, AConnectionWithoutDescriptorsSaysWhatIsMissing) {
  QpOptions options;
  options.timeout = 8;  // 1 ms
  options.retry_count = 0;
  ibv_qp* a = MakeQp(options);
  ibv_qp* b = MakeQp(options);
  ToInit(a, options);
  ToInit(b, options);
  rlimit before{};
  ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
  const std::string said = ErrorsOf([&] {
    const rlimit none{3, before.rlim_max};
    ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
    ToRts(a, AddressOf(b), options);
    ToRts(b, AddressOf(a), options);
    ASSERT_EQ(0, Send(a, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
    EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, Wait(cq_, 1).at(0).status);
    ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
  });
  EXPECT_EQ(1, std::count(said.begin(), said.end(), '\n')) << said;
  EXPECT_NE(std::string::npos, said.find("no file descriptors left")) << said;
}

TEST_F(Limits, NoDescriptorOfTheDeviceGoesToAnotherProgram) {
  QpOptions options;
  ibv_qp* a = MakeQp(options);
  ibv_qp* b = MakeQp(options);
  Connect(a, b, options);
  ASSERT_EQ(0, Receive(b, 1, {Range(0, 8)}));
  ASSERT_EQ(0, Send(a, Wr(1, IBV_WR_SEND), {Range(64, 8)}));
  Wait(cq_, 2);
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  for (int fd = 3; fd < 256; ++fd) {
    const int flags = fcntl(fd, F_GETFD);
    char what[64] = {};
    if (flags < 0 || readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), what, 63) < 0) {
      continue;
    }
    const bool ours = std::string(what).find("socket:") == 0 ||
                      std::string(what).find("anon_inode:") == 0 ||
                      std::string(what).find("/memfd:") == 0;
    EXPECT_TRUE(!ours || (flags & FD_CLOEXEC) != 0) << what;
  }
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
}

// Each of the processes knows the devices of all before it.
TEST_F(Limits, ForksOfForksHaveADeviceOfTheirOwn) {
  if (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)) {
    GTEST_SKIP() << "their allocator may be locked by a thread that is not in the child";
  }
  constexpr int kGenerations = 12;
  for (int generation = 1; generation <= kGenerations; ++generation) {
    const pid_t child = fork();
    if (child != 0) {
      int status = -1;
      EXPECT_EQ(child, waitpid(child, &status, 0));
      EXPECT_EQ(0, status) << "after " << generation;
      if (generation > 1) _exit(HasFailure() ? 1 : 0);
      return;
    }
    int count = 0;
    ibv_device** list = ibv_get_device_list(&count);
    ibv_context* own = ibv_open_device(list[0]);
    if (own == nullptr || ibv_alloc_pd(own) == nullptr || ibv_close_device(context_) != 0) _exit(1);
    context_ = own;
  }
  _exit(0);
}

}  // namespace
}  // namespace oxmem::nex
