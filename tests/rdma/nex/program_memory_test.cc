#include "rdma/nex/program_memory.h"

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

namespace oxmem::nex {
namespace {

constexpr std::size_t kPage = 4096;

std::byte* Map(int protection, int fd = -1) {
  void* memory =
      mmap(nullptr, kPage, protection, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
  EXPECT_NE(MAP_FAILED, memory);
  return static_cast<std::byte*>(memory);
}

IoBatch BatchOf(std::initializer_list<std::span<const std::byte>> pieces) {
  IoBatch batch;
  for (const auto& piece : pieces) batch.Add(piece.data(), piece.size());
  return batch;
}

// The state of a process: what a test changes of it stays in its own.
class ProgramMemory : public testing::Test {
 protected:
  std::array<std::byte, 64> own_{};
  std::array<std::byte, 64> bytes_{std::byte{1}, std::byte{2}, std::byte{3}};
};

void ExpectAllFails(std::byte* gone) {
  std::array<std::byte, 64> own{};
  std::array<std::byte, 64> bytes{};
  std::uint64_t found = 0;
  auto* const word = reinterpret_cast<std::uint64_t*>(gone);
  EXPECT_FALSE(CopyToProgram(BatchOf({{gone, 64}}), bytes));
  EXPECT_FALSE(CopyToProgram(BatchOf({{own.data(), 8}, {gone, 56}}), bytes));
  EXPECT_FALSE(CopyFromProgram(BatchOf({{own.data(), 8}, {gone, 56}}), bytes.data()));
  EXPECT_FALSE(FetchAddInProgram(word, 1, &found));
  EXPECT_FALSE(CompareSwapInProgram(word, 0, 1, &found));
}

void ExpectAllWorks() {
  std::array<std::byte, 64> own{};
  std::array<std::byte, 8> bytes{std::byte{5}, std::byte{6}};
  EXPECT_TRUE(CopyToProgram(BatchOf({{own.data(), 1}, {own.data() + 8, 7}}), bytes));
  EXPECT_EQ(std::byte{5}, own[0]);
  EXPECT_EQ(std::byte{0}, own[1]);
  EXPECT_EQ(std::byte{6}, own[8]);
  alignas(8) std::uint64_t word = 7;
  std::uint64_t found = 0;
  EXPECT_TRUE(FetchAddInProgram(&word, 2, &found));
  EXPECT_EQ(7u, found);
  EXPECT_TRUE(CompareSwapInProgram(&word, 9, 1, &found));
  EXPECT_EQ(9u, found);
  EXPECT_EQ(1u, word);
  EXPECT_TRUE(CompareSwapInProgram(&word, 9, 2, &found));
  EXPECT_EQ(1u, found);
  EXPECT_EQ(1u, word);
}

TEST_F(ProgramMemory, ThatIsGoneFailsTheAccessUnderGuard) {
  const bool guarded = GuardProgramMemory();
  for (int i = 0; i < 3; ++i) {
    ExpectAllFails(Map(PROT_NONE));
    ExpectAllWorks();
  }
  EXPECT_EQ(guarded, CopyFromProgram(BatchOf({{bytes_.data(), 64}}), own_.data()));
  EXPECT_EQ(guarded, bytes_ == own_);
}

TEST_F(ProgramMemory, ThatIsGoneFailsTheAccessWithoutAGuard) {
  ExpectAllFails(Map(PROT_NONE));
  ExpectAllWorks();
}

TEST_F(ProgramMemory, OfAFileThatWasCutShortIsGoneAsWell) {
  GuardProgramMemory();
  const int fd = memfd_create("cut", 0);
  ASSERT_EQ(0, ftruncate(fd, kPage));
  std::byte* memory = Map(PROT_READ | PROT_WRITE, fd);
  ASSERT_EQ(0, ftruncate(fd, 0));
  ExpectAllFails(memory);
  close(fd);
}

TEST_F(ProgramMemory, OfAThreadThatBlocksTheSignalsGoesTheSlowWay) {
  GuardProgramMemory();
  std::thread([] {
    ExpectAllWorks();  // before it does
    sigset_t all;
    sigfillset(&all);
    ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, &all, nullptr));
    OnSignalMask();  // as the function of the library does
    ExpectAllFails(Map(PROT_NONE));
    ExpectAllWorks();
  }).join();
}

TEST_F(ProgramMemory, GoesTheSlowWayWhenTheProgramTookTheSignals) {
  GuardProgramMemory();
  ASSERT_NE(SIG_ERR, signal(SIGSEGV, SIG_DFL));
  OnSignalAction(SIGSEGV, false);
  ExpectAllFails(Map(PROT_NONE));
  ExpectAllWorks();
}

// Faults of the program itself.
using ProgramFaults = ProgramMemory;

void Fault() { *reinterpret_cast<volatile char*>(Map(PROT_NONE)) = 1; }

TEST_F(ProgramFaults, EndItAsBefore) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT((GuardProgramMemory(), signal(SIGSEGV, SIG_DFL), Fault()),
              testing::KilledBySignal(SIGSEGV), "");
  const auto guarded_by_default = [] {
    signal(SIGSEGV, SIG_DFL);  // whatever a sanitizer has set
    GuardProgramMemory();
  };
  EXPECT_EXIT((guarded_by_default(), Fault()), testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT((guarded_by_default(), raise(SIGSEGV), pause()), testing::KilledBySignal(SIGSEGV),
              "");
}

TEST_F(ProgramFaults, ThatAreSentAndIgnoredStaySo) {
  signal(SIGSEGV, SIG_IGN);
  GuardProgramMemory();
  EXPECT_EQ(0, raise(SIGSEGV));
  ExpectAllFails(Map(PROT_NONE));
}

sigjmp_buf back;
volatile sig_atomic_t seen_code;
void* volatile seen_address;

void Jump(int, siginfo_t* info, void*) {
  seen_code = info->si_code;
  seen_address = info->si_addr;
  siglongjmp(back, 1);
}

TEST_F(ProgramFaults, ReachItsOwnHandler) {
  struct sigaction own = {};
  own.sa_sigaction = Jump;
  own.sa_flags = SA_SIGINFO;
  sigemptyset(&own.sa_mask);
  sigaddset(&own.sa_mask, SIGUSR1);
  ASSERT_EQ(0, sigaction(SIGSEGV, &own, nullptr));
  GuardProgramMemory();
  std::byte* const gone = Map(PROT_NONE);
  ExpectAllFails(gone);
  sigset_t during;
  if (sigsetjmp(back, 0) == 0) {
    *reinterpret_cast<volatile char*>(gone) = 1;
    FAIL() << "no fault";
  }
  EXPECT_EQ(SEGV_ACCERR, seen_code);
  EXPECT_EQ(gone, seen_address);
  // It ran with the mask that it asked for, which a jump without masks leaves as it is.
  ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, nullptr, &during));
  EXPECT_EQ(1, sigismember(&during, SIGUSR1));
  EXPECT_EQ(1, sigismember(&during, SIGSEGV));
}

}  // namespace
}  // namespace oxmem::nex
