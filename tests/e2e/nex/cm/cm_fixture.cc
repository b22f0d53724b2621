#include "tests/e2e/nex/cm/cm_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "rdma/nex/config.h"

namespace oxmem::nex {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(20);
constexpr int kPatienceMs = 20000;
constexpr const char* kGood = "good";

const bool prepared = [] {
  const int port = 20000 + static_cast<int>(getpid()) * 7 % 11000;
  setenv("NEX_PORT", std::to_string(port).c_str(), 0);
  return true;
}();

Gid MappedGid(const sockaddr_in& address) {
  Gid gid{};
  gid[10] = gid[11] = 0xff;
  std::memcpy(&gid[12], &address.sin_addr, 4);
  return gid;
}

rdma_conn_param Parameters(const char* data) {
  rdma_conn_param parameters{};
  parameters.private_data = data;
  parameters.private_data_len = static_cast<std::uint8_t>(std::strlen(data));
  parameters.responder_resources = parameters.initiator_depth = 1;
  parameters.retry_count = parameters.rnr_retry_count = 7;
  return parameters;
}

}  // namespace

void CmTest::SetUp() {
  ASSERT_TRUE(prepared);
  server_channel_ = rdma_create_event_channel();
  client_channel_ = rdma_create_event_channel();
  ASSERT_TRUE(server_channel_ != nullptr && client_channel_ != nullptr);
  listener_ = Listen(RDMA_PS_TCP, kBacklog);
}

void CmTest::TearDown() {
  for (rdma_cm_id* id : listeners_) rdma_destroy_id(id);
  rdma_destroy_event_channel(client_channel_);
  rdma_destroy_event_channel(server_channel_);
}

rdma_cm_id* CmTest::Listen(rdma_port_space space, int backlog, std::uint16_t port) {
  rdma_cm_id* id = nullptr;
  sockaddr_in address = Loopback(port);
  EXPECT_EQ(0, rdma_create_id(server_channel_, &id, nullptr, space));
  EXPECT_EQ(0, rdma_bind_addr(id, Plain(&address)));
  EXPECT_EQ(0, rdma_listen(id, backlog));
  listeners_.push_back(id);
  return id;
}

bool CmTest::HasEvent(const rdma_event_channel* channel) {
  pollfd readable{channel->fd, POLLIN, 0};
  return poll(&readable, 1, 0) == 1;
}

std::optional<CmSeen> CmTest::Next(rdma_event_channel* channel) {
  pollfd readable{channel->fd, POLLIN, 0};
  if (poll(&readable, 1, kPatienceMs) != 1) return std::nullopt;
  rdma_cm_event* event = nullptr;
  if (rdma_get_cm_event(channel, &event) != 0) return std::nullopt;
  CmSeen seen{event->event, event->status, event->id, {}};
  if (event->id->ps != RDMA_PS_UDP) {
    seen.responder_resources = event->param.conn.responder_resources;
    seen.initiator_depth = event->param.conn.initiator_depth;
  }
  if (event->id->ps == RDMA_PS_UDP && event->param.ud.private_data_len > 0) {
    seen.data.assign(static_cast<const char*>(event->param.ud.private_data),
                     event->param.ud.private_data_len);
  } else if (event->id->ps != RDMA_PS_UDP && event->param.conn.private_data_len > 0) {
    seen.data.assign(static_cast<const char*>(event->param.conn.private_data),
                     event->param.conn.private_data_len);
  }
  rdma_ack_cm_event(event);
  return seen;
}

testing::AssertionResult CmTest::Gets(rdma_event_channel* channel, rdma_cm_event_type type,
                                      CmSeen* seen) {
  const auto next = Next(channel);
  if (!next) return testing::AssertionFailure() << "no event";
  if (seen != nullptr) *seen = *next;
  if (next->type == type) return testing::AssertionSuccess();
  return testing::AssertionFailure() << rdma_event_str(next->type) << ", status " << next->status;
}

rdma_cm_id* CmTest::NewClient(bool queue_pair, std::uint16_t port, rdma_port_space space) {
  rdma_cm_id* id = nullptr;
  sockaddr_in to = Loopback(port != 0 ? port : PortOf(listener_));
  EXPECT_EQ(0, rdma_create_id(client_channel_, &id, nullptr, space));
  EXPECT_EQ(0, rdma_resolve_addr(id, nullptr, Plain(&to), 2000));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ADDR_RESOLVED));
  EXPECT_EQ(0, rdma_resolve_route(id, 2000));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ROUTE_RESOLVED));
  if (queue_pair) MakeQueuePair(id);
  return id;
}

void CmTest::MakeQueuePair(rdma_cm_id* id) {
  ibv_qp_init_attr init{};
  init.qp_type = id->ps == RDMA_PS_UDP ? IBV_QPT_UD : IBV_QPT_RC;
  init.cap.max_send_wr = init.cap.max_recv_wr = 4;
  init.cap.max_send_sge = init.cap.max_recv_sge = 1;
  init.sq_sig_all = 1;
  ASSERT_EQ(0, rdma_create_qp(id, nullptr, &init));
}

CmPair CmTest::Connect(rdma_cm_id* listener) {
  CmPair pair;
  pair.client = NewClient(true, PortOf(listener != nullptr ? listener : listener_));
  rdma_conn_param parameters = Parameters(kGood);
  EXPECT_EQ(0, rdma_connect(pair.client, &parameters));
  for (bool established = false; !established;) {
    const auto seen = Next(server_channel_);
    if (!seen) {
      ADD_FAILURE() << "no event";
      return pair;
    }
    if (seen->type == RDMA_CM_EVENT_ESTABLISHED) {
      EXPECT_EQ(pair.server, seen->id);
      established = true;
    } else if (seen->type != RDMA_CM_EVENT_CONNECT_REQUEST) {
      ADD_FAILURE() << rdma_event_str(seen->type);
    } else if (seen->data == kGood) {
      pair.server = seen->id;
      MakeQueuePair(pair.server);
      rdma_conn_param answer = Parameters("");
      EXPECT_EQ(0, rdma_accept(pair.server, &answer));
      EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ESTABLISHED));
    } else {
      rdma_reject(seen->id, nullptr, 0);
      rdma_destroy_id(seen->id);
    }
  }
  return pair;
}

void CmTest::Exchange(const CmPair& pair) {
  ASSERT_TRUE(pair.client != nullptr && pair.server != nullptr);
  std::array<char, 8> from{"message"}, to{};
  ibv_mr* source = rdma_reg_msgs(pair.client, from.data(), from.size());
  ibv_mr* target = rdma_reg_msgs(pair.server, to.data(), to.size());
  ASSERT_EQ(0, rdma_post_recv(pair.server, nullptr, to.data(), to.size(), target));
  ASSERT_EQ(0, rdma_post_send(pair.client, nullptr, from.data(), from.size(), source, 0));
  for (ibv_cq* cq : {pair.client->send_cq, pair.server->recv_cq}) {
    ibv_wc wc{};
    const auto end = Clock::now() + kPatience;
    while (ibv_poll_cq(cq, 1, &wc) == 0 && Clock::now() < end) {
    }
    EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    EXPECT_NE(0u, wc.qp_num);
  }
  EXPECT_EQ(from, to);
  rdma_dereg_mr(source);
  rdma_dereg_mr(target);
}

void CmTest::Destroy(rdma_cm_id* id) {
  if (id->qp != nullptr) rdma_destroy_qp(id);
  EXPECT_EQ(0, rdma_destroy_id(id));
}

std::size_t CmTest::OpenDescriptors() {
  std::size_t count = 0;
  DIR* folder = opendir("/proc/self/fd");
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

bool CmTest::DescriptorsFallTo(std::size_t count) {
  const auto end = Clock::now() + kPatience;
  while (OpenDescriptors() > count) {
    if (Clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

CmNumber::CmNumber(std::uint16_t number) : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in own = Loopback(number);
  socklen_t size = sizeof own;
  EXPECT_EQ(0, bind(fd_.get(), Plain(&own), size)) << strerror(errno);
  EXPECT_EQ(0, getsockname(fd_.get(), Plain(&own), &size));
  number_ = ntohs(own.sin_port);
}

void CmNumber::SayTo(std::uint16_t number, std::span<const std::byte> bytes) const {
  sockaddr_in to = Loopback(number);
  // Where there is no room it is lost, as datagrams are.
  [[maybe_unused]] const ssize_t sent =
      sendto(fd_.get(), bytes.data(), bytes.size(), 0, Plain(&to), sizeof to);
}

std::vector<std::byte> CmNumber::Hear(std::uint16_t* from) const {
  pollfd readable{fd_.get(), POLLIN, 0};
  if (poll(&readable, 1, kPatienceMs) != 1) return {};
  std::vector<std::byte> bytes(512);
  sockaddr_in sender{};
  socklen_t size = sizeof sender;
  const ssize_t got = recvfrom(fd_.get(), bytes.data(), bytes.size(), 0, Plain(&sender), &size);
  bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  *from = ntohs(sender.sin_port);
  return bytes;
}

bool CmNumber::HasHeard() const {
  pollfd readable{fd_.get(), POLLIN, 0};
  return poll(&readable, 1, 0) == 1;
}

CmLookup CmNumber::Ask(std::uint16_t number) const {
  static constexpr std::uint64_t kNonce = 0x0102030405060708;
  SayTo(number, Bytes({.nonce = kNonce}));
  std::uint16_t from = 0;
  const auto answer = DecodeLookup(Hear(&from));
  EXPECT_TRUE(answer && answer->answers && answer->nonce == kNonce && from == number);
  return answer.value_or(CmLookup{});
}

std::uint16_t CmNumber::Answer(std::uint16_t tcp_port, std::uint64_t ticket) const {
  std::uint16_t from = 0;
  const auto question = DecodeLookup(Hear(&from));
  EXPECT_TRUE(question && !question->answers);
  if (!question) return 0;
  SayTo(from, Bytes({true, question->nonce, tcp_port, ticket}));
  return from;
}

std::vector<std::byte> CmNumber::Bytes(const CmLookup& lookup) {
  std::vector<std::byte> bytes(kCmLookupBytes);
  EncodeLookup(lookup, std::span<std::byte, kCmLookupBytes>(bytes));
  return bytes;
}

CmPeer CmPeer::DialDirectly(std::uint16_t port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = Loopback(port);
  EXPECT_EQ(0, connect(fd.get(), Plain(&to), sizeof to)) << strerror(errno);
  return CmPeer(std::move(fd));
}

CmPeer CmPeer::Dial(std::uint16_t number) {
  const CmNumber own;
  const CmLookup answer = own.Ask(number);
  return CmPeer(std::move(DialDirectly(answer.port).fd_), own.number(), number, answer.ticket);
}

CmMessage CmPeer::Message(CmMessageType type) const {
  CmMessage message;
  message.type = type;
  message.qpn = 0x123456;
  sockaddr_in own{}, peer{};
  socklen_t size = sizeof own;
  getsockname(fd_.get(), Plain(&own), &size);
  size = sizeof peer;
  getpeername(fd_.get(), Plain(&peer), &size);
  message.source = MappedGid(own);
  message.source_port = own_number_ != 0 ? own_number_ : ntohs(own.sin_port);
  message.destination = MappedGid(peer);
  message.destination_port = peer_number_ != 0 ? peer_number_ : ntohs(peer.sin_port);
  if (type == CmMessageType::kRequest) message.ticket = ticket_;
  message.responder_resources = message.initiator_depth = 1;
  return message;
}

std::array<std::byte, kCmMessageBytes> CmPeer::Bytes(const CmMessage& message) {
  std::array<std::byte, kCmMessageBytes> bytes;
  EncodeCm(message, bytes);
  return bytes;
}

void CmPeer::Say(std::span<const std::byte> bytes) const {
  // The other side may have closed already: that is what is wanted.
  [[maybe_unused]] const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

void CmPeer::Finish() const { shutdown(fd_.get(), SHUT_WR); }

bool CmPeer::Closed() const {
  std::array<std::byte, 512> bytes;
  for (;;) {
    pollfd readable{fd_.get(), POLLIN, 0};
    if (poll(&readable, 1, kPatienceMs) != 1) return false;
    if (recv(fd_.get(), bytes.data(), bytes.size(), 0) <= 0) return true;
  }
}

bool CmPeer::StillOpen() const {
  std::byte byte;
  return recv(fd_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

std::optional<CmMessage> CmPeer::Hear() const {
  std::array<std::byte, kCmMessageBytes> bytes;
  const timeval patience{kPatience.count(), 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const ssize_t got = recv(fd_.get(), bytes.data(), bytes.size(), MSG_WAITALL);
  if (got != static_cast<ssize_t>(bytes.size())) return std::nullopt;
  return DecodeCm(bytes);
}

}  // namespace oxmem::nex
