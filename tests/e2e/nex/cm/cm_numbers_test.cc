// The numbers of identifiers: who else may have the same one, and how they are found.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/e2e/nex/cm/cm_fixture.h"
#include "transport/base/clock.h"

namespace oxmem::nex {
namespace {

// A plain TCP listener: its port, and the descriptor, which is not valid where it was refused.
UniqueFd ListenByTcp(std::uint16_t* port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Loopback(*port);
  socklen_t size = sizeof address;
  if (bind(fd.get(), Plain(&address), size) != 0 || listen(fd.get(), 4) != 0) return {};
  getsockname(fd.get(), Plain(&address), &size);
  *port = ntohs(address.sin_port);
  return fd;
}

class CmNumbers : public CmTest {
 protected:
  rdma_cm_id* New(rdma_port_space space = RDMA_PS_TCP, bool shares = false) {
    rdma_cm_id* id = nullptr;
    EXPECT_EQ(0, rdma_create_id(server_channel_, &id, nullptr, space));
    int one = 1;
    if (shares) {
      EXPECT_EQ(0, rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &one, sizeof one));
    }
    return id;
  }
  static int Bind(rdma_cm_id* id, std::uint16_t number) {
    sockaddr_in address = Loopback(number);
    return rdma_bind_addr(id, Plain(&address)) == 0 ? 0 : errno;
  }
  static int Listens(rdma_cm_id* id) { return rdma_listen(id, 4) == 0 ? 0 : errno; }
  rdma_cm_id* ConnectTo(std::uint16_t number) {
    rdma_cm_id* client = NewClient(true, number);
    rdma_conn_param parameters{};
    EXPECT_EQ(0, rdma_connect(client, &parameters));
    return client;
  }
  void ConnectAndExchange(rdma_cm_id* listener) {
    const CmPair pair = Connect(listener);
    Exchange(pair);
    EXPECT_EQ(PortOf(listener), PortOf(pair.server));
    EXPECT_EQ(PortOf(listener), ntohs(rdma_get_dst_port(pair.client)));
    EXPECT_EQ(PortOf(pair.client), ntohs(rdma_get_dst_port(pair.server)));
    Destroy(pair.client);
    Destroy(pair.server);
  }
  // A number that nobody has.
  static std::uint16_t Nobodys() { return CmNumber().number(); }
};

TEST_F(CmNumbers, TcpAndTheConnectionManagerListenOnOneNumberInEitherOrder) {
  std::uint16_t number = 0;
  UniqueFd plain = ListenByTcp(&number);
  ASSERT_TRUE(plain.valid());
  rdma_cm_id* listener = Listen(RDMA_PS_TCP, 4, number);
  ASSERT_EQ(number, PortOf(listener));
  ConnectAndExchange(listener);

  plain.Reset();
  plain = ListenByTcp(&number);
  ASSERT_TRUE(plain.valid()) << strerror(errno);
  ConnectAndExchange(listener);
  // Those of TCP come to the program's own socket.
  UniqueFd caller(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = Loopback(number);
  ASSERT_EQ(0, connect(caller.get(), Plain(&to), sizeof to));
  const UniqueFd accepted(accept(plain.get(), nullptr, nullptr));
  EXPECT_TRUE(accepted.valid());
}

TEST_F(CmNumbers, EachPortSpaceHasNumbersOfItsOwn) {
  rdma_cm_id* datagrams = Listen(RDMA_PS_UDP, 4);
  rdma_cm_id* connections = Listen(RDMA_PS_TCP, 4, PortOf(datagrams));
  EXPECT_EQ(PortOf(datagrams), PortOf(connections));
  ConnectAndExchange(connections);
  rdma_cm_id* client = NewClient(true, PortOf(datagrams), RDMA_PS_UDP);
  rdma_conn_param parameters{};
  ASSERT_EQ(0, rdma_connect(client, &parameters));
  CmSeen request;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &request));
  MakeQueuePair(request.id);
  ASSERT_EQ(0, rdma_accept(request.id, &parameters));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ESTABLISHED));
  Destroy(client);
  Destroy(request.id);
}

TEST_F(CmNumbers, ANumberIsTakenOnce) {
  rdma_cm_id* id = New();
  EXPECT_EQ(EADDRINUSE, Bind(id, PortOf(listener_)));
  EXPECT_EQ(0, rdma_destroy_id(id));
  id = New(RDMA_PS_TCP, true);
  EXPECT_EQ(EADDRINUSE, Bind(id, PortOf(listener_)));
  EXPECT_EQ(0, rdma_destroy_id(id));
}

TEST_F(CmNumbers, ANumberIsTakenOnceAmongProcesses) {
  const std::uint16_t number = PortOf(listener_);
  const pid_t child = fork();
  if (child == 0) {
    server_channel_ = rdma_create_event_channel();
    const bool taken = Bind(New(), number) == EADDRINUSE;
    _exit(taken && Bind(New(), Nobodys()) == 0 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_EQ(0, status);
  ConnectAndExchange(listener_);
}

TEST_F(CmNumbers, AListenerIsMadeAgainAtOnce) {
  const std::uint16_t number = PortOf(listener_);
  for (int i = 0; i < 3; ++i) {
    ConnectAndExchange(listener_);
    ASSERT_EQ(0, rdma_destroy_id(listener_));
    listeners_.clear();
    listener_ = Listen(RDMA_PS_TCP, 4, number);
    ASSERT_EQ(number, PortOf(listener_));
  }
}

TEST_F(CmNumbers, WhoAllowsItSharesANumberUntilOneListens) {
  rdma_cm_id *first = New(RDMA_PS_TCP, true), *second = New(RDMA_PS_TCP, true);
  ASSERT_EQ(0, Bind(first, 0));
  EXPECT_EQ(0, Bind(second, PortOf(first)));
  rdma_cm_id* third = New();
  EXPECT_EQ(EADDRINUSE, Bind(third, PortOf(first)));
  EXPECT_EQ(EADDRINUSE, Listens(first));
  EXPECT_EQ(0, rdma_destroy_id(second));
  EXPECT_EQ(0, Listens(first));
  ConnectAndExchange(first);
  for (rdma_cm_id* id : {third, first}) EXPECT_EQ(0, rdma_destroy_id(id));
}

TEST_F(CmNumbers, ARequestToNobodyIsRejectedAfterAMoment) {
  rdma_cm_id* bound = New();
  ASSERT_EQ(0, Bind(bound, 0));
  for (const std::uint16_t number : {Nobodys(), PortOf(bound)}) {
    const Instant start = Now();
    rdma_cm_id* client = ConnectTo(number);
    CmSeen seen;
    EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_REJECTED, &seen));
    EXPECT_EQ(8, seen.status);  // InfiniBand 12.6.7.2: invalid service id
    EXPECT_LE(Duration::Milliseconds(290), Now() - start);
    EXPECT_GE(Duration::Seconds(5), Now() - start);
    Destroy(client);
  }
  EXPECT_EQ(0, rdma_destroy_id(bound));
}

TEST_F(CmNumbers, AListenerThatComesInThatMomentGetsTheRequest) {
  rdma_cm_id* listener = New();
  ASSERT_EQ(0, Bind(listener, 0));
  rdma_cm_id* client = ConnectTo(PortOf(listener));
  ASSERT_EQ(0, Listens(listener));
  EXPECT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST));
  Destroy(client);
  EXPECT_EQ(0, rdma_destroy_id(listener));
}

TEST_F(CmNumbers, OneOfItsOwnIsNobodys) {
  rdma_cm_id* client = nullptr;
  ASSERT_EQ(0, rdma_create_id(client_channel_, &client, nullptr, RDMA_PS_TCP));
  ASSERT_EQ(0, Bind(client, 0));
  sockaddr_in own = Loopback(PortOf(client));
  ASSERT_EQ(0, rdma_resolve_addr(client, nullptr, Plain(&own), 2000));
  ASSERT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ADDR_RESOLVED));
  ASSERT_EQ(0, rdma_resolve_route(client, 2000));
  ASSERT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ROUTE_RESOLVED));
  MakeQueuePair(client);
  rdma_conn_param parameters{};
  ASSERT_EQ(0, rdma_connect(client, &parameters));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_REJECTED));
  Destroy(client);
}

// A server that answers questions as it wants, and refuses the request that comes of it.
class CmOddServer : public CmNumbers {
 protected:
  void SetUp() override {
    CmNumbers::SetUp();
    server_ = ListenByTcp(&port_);
    ASSERT_TRUE(server_.valid());
  }
  void GetsTheRequest(std::uint16_t client, std::uint64_t ticket) {
    pollfd readable{server_.get(), POLLIN, 0};
    ASSERT_EQ(1, poll(&readable, 1, 20000));
    CmPeer peer(UniqueFd(accept(server_.get(), nullptr, nullptr)), number_.number(), client);
    const auto request = peer.Hear();
    ASSERT_TRUE(request);
    EXPECT_EQ(ticket, request->ticket);
    peer.Say(CmMessageType::kReject);
    EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_REJECTED));
  }
  std::uint16_t port_ = 0;
  UniqueFd server_;
  const CmNumber number_;
};

TEST_F(CmOddServer, LostQuestionsAreAskedAgain) {
  rdma_cm_id* client = ConnectTo(number_.number());
  std::uint16_t from = 0;
  const std::vector<std::byte> lost = number_.Hear(&from);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(lost, number_.Hear(&from));
  EXPECT_EQ(PortOf(client), from);
  EXPECT_EQ(from, number_.Answer(port_, 9));
  GetsTheRequest(from, 9);
  Destroy(client);
}

TEST_F(CmOddServer, AnAnswerThatIsPassedOnIsOfNoUse) {
  const CmLookup served = number_.Ask(PortOf(listener_));
  rdma_cm_id* client = ConnectTo(number_.number());
  number_.Answer(served.port, served.ticket);
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_UNREACHABLE));
  EXPECT_FALSE(HasEvent(server_channel_));
  Destroy(client);
}

TEST_F(CmOddServer, AnswersOfOthersAndWrongOnesAreNotHeard) {
  const CmNumber stranger;
  rdma_cm_id* client = ConnectTo(number_.number());
  std::uint16_t from = 0;
  const auto question = DecodeLookup(number_.Hear(&from));
  ASSERT_TRUE(question);
  // Each of these would lead elsewhere, or nowhere.
  number_.SayTo(from, CmNumber::Bytes({true, question->nonce + 1, 9, 7}));
  number_.SayTo(from, CmNumber::Bytes({true, question->nonce ^ 1ull << 63, 0, 0}));
  auto bytes = CmNumber::Bytes({true, question->nonce, 9, 7});
  stranger.SayTo(from, bytes);
  for (const std::size_t at : {0u, 4u, 5u, 6u, 7u, 18u, 23u}) {
    bytes[at] ^= std::byte{1};
    number_.SayTo(from, bytes);
    bytes[at] ^= std::byte{1};
  }
  number_.SayTo(from, std::span(bytes).first(31));
  number_.SayTo(from, {});
  bytes.push_back(std::byte{0});
  number_.SayTo(from, bytes);
  number_.SayTo(from, CmNumber::Bytes(*question));
  number_.SayTo(from, CmNumber::Bytes({true, question->nonce, port_, 7}));
  GetsTheRequest(from, 7);
  Destroy(client);
}

TEST_F(CmNumbers, AnswersThatNeverComeAreNotAwaitedForEver) {
  const CmNumber silent;
  const Instant start = Now();
  rdma_cm_id* client = ConnectTo(silent.number());
  ConnectAndExchange(listener_);
  int questions = 0;
  std::uint16_t from = 0;
  while (!HasEvent(client_channel_) && Now() < start + Duration::Seconds(90)) {
    pollfd readable{client_channel_->fd, POLLIN, 0};
    poll(&readable, 1, 1000);
    for (; silent.HasHeard(); ++questions) silent.Hear(&from);
  }
  CmSeen seen;
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_UNREACHABLE, &seen));
  EXPECT_EQ(-ETIMEDOUT, seen.status);
  EXPECT_LE(Duration::Seconds(55), Now() - start);
  EXPECT_LE(30, questions);
  EXPECT_GE(70, questions);
  Destroy(client);
}

TEST_F(CmNumbers, AFloodOfQuestionsDisturbsNobody) {
  const std::uint16_t number = PortOf(listener_);
  rdma_cm_id* other = Listen(RDMA_PS_TCP, 4);
  std::atomic<bool> over = false;
  std::thread flood([&] {
    const CmNumber hostile;
    const auto bytes = CmNumber::Bytes({.nonce = 1});
    // Many times what is answered, with gaps, as no asker can be promised more than chance has.
    for (int said = 1; !over; ++said) {
      hostile.SayTo(number, bytes);
      if (said % 4096 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  // Others and what is connected do not feel it, and there one gets through in time.
  for (rdma_cm_id* listener : {other, other, other, other, other, listener_, listener_}) {
    const CmPair pair = Connect(listener);
    Exchange(pair);
    Destroy(pair.client);
    Destroy(pair.server);
  }
  over = true;
  flood.join();
}

TEST_F(CmNumbers, OnlyQuestionsAreAnsweredAndWithNoMoreThanTheyAre) {
  const CmNumber asker;
  const std::uint16_t number = PortOf(listener_);
  const auto good = CmNumber::Bytes({.nonce = 5});
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bytes = good;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    if (bit / 8 < 8 || bit / 8 >= 16) asker.SayTo(number, bytes);
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    asker.SayTo(number, std::span(good).first(size));
  }
  asker.SayTo(number, std::vector<std::byte>(1400));
  asker.SayTo(number, CmNumber::Bytes({true, 5, 6, 7}));
  // The first answer is that to the first good question.
  const CmLookup answer = asker.Ask(number);
  EXPECT_NE(0, answer.port);
  EXPECT_FALSE(asker.HasHeard());
  // From another number it would be another ticket.
  EXPECT_NE(answer.ticket, CmNumber().Ask(number).ticket);
  EXPECT_EQ(answer, asker.Ask(number));
}

TEST_F(CmNumbers, ATicketIsForTheNumberThatAskedOnly) {
  const CmNumber asker;
  const CmLookup answer = asker.Ask(PortOf(listener_));
  const auto dial = [&](std::uint16_t claimed, std::uint64_t ticket) {
    sockaddr_in to = Loopback(answer.port);
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(0, connect(fd.get(), Plain(&to), sizeof to));
    CmPeer peer(std::move(fd), claimed, PortOf(listener_), ticket);
    peer.Say(CmMessageType::kRequest);
    return peer;
  };
  for (const auto& [number, ticket] : {std::pair{asker.number() ^ 1, answer.ticket},
                                       std::pair{asker.number() + 0, answer.ticket ^ 1},
                                       std::pair{asker.number() + 0, std::uint64_t{0}}}) {
    EXPECT_TRUE(dial(static_cast<std::uint16_t>(number), ticket).Closed());
  }
  EXPECT_FALSE(HasEvent(server_channel_));
  const CmPeer peer = dial(asker.number(), answer.ticket);
  CmSeen request;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &request));
  EXPECT_EQ(asker.number(), ntohs(rdma_get_dst_port(request.id)));
  EXPECT_EQ(PortOf(listener_), PortOf(request.id));
  EXPECT_EQ(0, rdma_destroy_id(request.id));
}

TEST_F(CmNumbers, NumbersThatTheSystemChoosesAreFree) {
  sockaddr_in any{};
  any.sin_family = AF_INET;
  for (int i = 0; i < 100; ++i) {
    rdma_cm_id* id = New();
    listeners_.push_back(id);
    ASSERT_EQ(0, rdma_bind_addr(id, Plain(&any)));
    EXPECT_NE(0, PortOf(id));
    ASSERT_EQ(0, Listens(id));
    if (i % 25 == 0) {
      const CmPair pair = Connect(id);
      Exchange(pair);
      Destroy(pair.client);
      Destroy(pair.server);
    }
  }
}

TEST_F(CmNumbers, SeveralHundredConnectAtOnce) {
  constexpr int kMany = 400;
  std::vector<rdma_cm_id*> clients, servers;
  rdma_conn_param parameters{};
  for (int i = 0; i < kMany; ++i) clients.push_back(NewClient(true));
  for (rdma_cm_id* client : clients) ASSERT_EQ(0, rdma_connect(client, &parameters));
  for (int i = 0; i < kMany; ++i) {
    CmSeen seen;
    ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &seen));
    servers.push_back(seen.id);
  }
  for (rdma_cm_id* id : servers) EXPECT_EQ(0, rdma_reject(id, nullptr, 0));
  for (int i = 0; i < kMany; ++i) EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_REJECTED));
  for (rdma_cm_id* id : clients) Destroy(id);
  for (rdma_cm_id* id : servers) EXPECT_EQ(0, rdma_destroy_id(id));
}

}  // namespace
}  // namespace oxmem::nex
