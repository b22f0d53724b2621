#ifndef TESTS_E2E_NEX_CM_CM_FIXTURE_H_
#define TESTS_E2E_NEX_CM_CM_FIXTURE_H_

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rdma/nex/cm/lookup.h"
#include "rdma/nex/cm/message.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

// An event of the connection manager, copied and acknowledged.
struct CmSeen {
  rdma_cm_event_type type{};
  int status = 0;
  rdma_cm_id* id = nullptr;
  std::string data;  // private data
  std::uint8_t responder_resources = 0;
  std::uint8_t initiator_depth = 0;
};

// A port of 127.0.0.1, and how the system takes addresses.
inline sockaddr_in Loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

inline sockaddr* Plain(sockaddr_in* address) { return reinterpret_cast<sockaddr*>(address); }

// The ends of a connection that somebody made.
struct CmPair {
  rdma_cm_id* client = nullptr;
  rdma_cm_id* server = nullptr;
};

// A program of librdmacm with a listener on loopback, one channel for its server side and one for
// its clients. The program is linked with libnex in front of librdmacm's calls, as preloading
// puts it.
class CmTest : public testing::Test {
 protected:
  static constexpr int kBacklog = 512;

  void SetUp() override;
  void TearDown() override;

  // A listener on a free port of 127.0.0.1, or on this one; destroyed at the end.
  rdma_cm_id* Listen(rdma_port_space space, int backlog, std::uint16_t port = 0);
  // The next event within 20 s.
  static std::optional<CmSeen> Next(rdma_event_channel* channel);
  static bool HasEvent(const rdma_event_channel* channel);
  // Whether the type is that of the next event; says which came otherwise.
  static testing::AssertionResult Gets(rdma_event_channel* channel, rdma_cm_event_type type,
                                       CmSeen* seen = nullptr);

  // A client whose address and route to the port are resolved, with a queue pair if it is to have
  // one. 0: the test's listener.
  rdma_cm_id* NewClient(bool queue_pair, std::uint16_t port = 0,
                        rdma_port_space space = RDMA_PS_TCP);
  static void MakeQueuePair(rdma_cm_id* id);
  // Connects through the listener; requests of others that come before it are refused.
  CmPair Connect(rdma_cm_id* listener = nullptr);
  // The pair moves a message.
  void Exchange(const CmPair& pair);
  static void Destroy(rdma_cm_id* id);

  static std::uint16_t PortOf(rdma_cm_id* id) { return ntohs(rdma_get_src_port(id)); }
  static std::size_t OpenDescriptors();
  // Waits until no more than so many are open: the other side closes in its own time.
  static bool DescriptorsFallTo(std::size_t count);

  rdma_event_channel* server_channel_ = nullptr;
  rdma_event_channel* client_channel_ = nullptr;
  rdma_cm_id* listener_ = nullptr;
  std::vector<rdma_cm_id*> listeners_;
};

// A number of 127.0.0.1 from which somebody asks others, or answers them, as it wants.
class CmNumber {
 public:
  explicit CmNumber(std::uint16_t number = 0);  // 0: a free one
  std::uint16_t number() const { return number_; }
  void SayTo(std::uint16_t number, std::span<const std::byte> bytes) const;
  // The next datagram within 20 s, and from where it came.
  std::vector<std::byte> Hear(std::uint16_t* from) const;
  bool HasHeard() const;
  // What is said to a question.
  CmLookup Ask(std::uint16_t number) const;
  // Answers one question, and whose it was.
  std::uint16_t Answer(std::uint16_t tcp_port, std::uint64_t ticket) const;

  static std::vector<std::byte> Bytes(const CmLookup& lookup);

 private:
  UniqueFd fd_;
  std::uint16_t number_ = 0;
};

// A peer that speaks the wire format itself.
class CmPeer {
 public:
  CmPeer() = default;
  explicit CmPeer(UniqueFd fd) : fd_(std::move(fd)) {}
  // What the two ends have as their numbers.
  CmPeer(UniqueFd fd, std::uint16_t own, std::uint16_t peer, std::uint64_t ticket = 0)
      : fd_(std::move(fd)), own_number_(own), peer_number_(peer), ticket_(ticket) {}
  // Asks the number, and connects to where it is served.
  static CmPeer Dial(std::uint16_t number);
  static CmPeer DialDirectly(std::uint16_t port);  // in the UDP port space

  // A message that is right for this connection.
  CmMessage Message(CmMessageType type) const;
  static std::array<std::byte, kCmMessageBytes> Bytes(const CmMessage& message);
  void Say(std::span<const std::byte> bytes) const;
  void Say(CmMessageType type) const { Say(Bytes(Message(type))); }
  void Finish() const;  // no more will be said
  // Reads to the end of the connection. False: it has not ended within 20 s.
  bool Closed() const;
  bool StillOpen() const;
  std::optional<CmMessage> Hear() const;
  int fd() const { return fd_.get(); }
  void Close() { fd_.Reset(); }

 private:
  UniqueFd fd_;
  std::uint16_t own_number_ = 0;  // 0: the TCP port
  std::uint16_t peer_number_ = 0;
  std::uint64_t ticket_ = 0;
};

}  // namespace oxmem::nex

#endif  // TESTS_E2E_NEX_CM_CM_FIXTURE_H_
