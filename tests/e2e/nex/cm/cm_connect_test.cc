// What programs do with the connection manager beyond what the distribution's programs do.
#include <arpa/inet.h>
#include <sys/socket.h>

#include "tests/e2e/nex/cm/cm_fixture.h"
#include "tests/e2e/nex/interrupted.h"

namespace oxmem::nex {
namespace {

class CmConnect : public CmTest {
 protected:
  sockaddr_in group_ = [] {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, "239.7.7.7", &address.sin_addr);
    return address;
  }();

  // A member of the group that has not taken the event that says so.
  rdma_cm_id* NewMember() {
    rdma_cm_id* id = nullptr;
    sockaddr_in own = Loopback(0);
    EXPECT_EQ(0, rdma_create_id(client_channel_, &id, nullptr, RDMA_PS_UDP));
    EXPECT_EQ(0, rdma_resolve_addr(id, Plain(&own), Plain(&group_), 2000));
    EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ADDR_RESOLVED));
    MakeQueuePair(id);
    EXPECT_EQ(0, rdma_join_multicast(id, Plain(&group_), nullptr));
    EXPECT_TRUE(HasEvent(client_channel_));
    return id;
  }
};

TEST_F(CmConnect, ARequestThatWasTakenOutlivesItsListener) {
  rdma_cm_id* client = NewClient(true);
  rdma_conn_param parameters{};
  ASSERT_EQ(0, rdma_connect(client, &parameters));
  CmSeen request;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &request));
  ASSERT_EQ(0, rdma_destroy_id(listener_));
  listeners_.clear();
  MakeQueuePair(request.id);
  ASSERT_EQ(0, rdma_accept(request.id, &parameters));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ESTABLISHED));
  EXPECT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_ESTABLISHED));
  Exchange({client, request.id});
  Destroy(client);
  Destroy(request.id);
}

TEST_F(CmConnect, ARequestThatWasNotTakenIsRefusedWithItsListener) {
  rdma_cm_id* client = NewClient(true);
  rdma_conn_param parameters{};
  ASSERT_EQ(0, rdma_connect(client, &parameters));
  while (!HasEvent(server_channel_)) {
  }
  const std::size_t with_request = OpenDescriptors();
  ASSERT_EQ(0, rdma_destroy_id(listener_));
  listeners_.clear();
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_REJECTED));
  EXPECT_FALSE(HasEvent(server_channel_));
  EXPECT_TRUE(DescriptorsFallTo(with_request - 2));
  Destroy(client);
}

TEST_F(CmConnect, ManyIdentifiersOneAfterTheOtherAreNotTooMany) {
  // librdmacm has a table of 65536.
  for (int i = 0; i < 70000; ++i) {
    rdma_cm_id* id = nullptr;
    ASSERT_EQ(0, rdma_create_id(client_channel_, &id, nullptr, RDMA_PS_TCP)) << i;
    ASSERT_EQ(0, rdma_destroy_id(id));
  }
  const CmPair pair = Connect();
  Exchange(pair);
  Destroy(pair.client);
  Destroy(pair.server);
}

TEST_F(CmConnect, PrivateDataHasTheLimitsOfADevice) {
  const std::string data(255, 'x');
  const auto with = [&](std::uint8_t length) {
    rdma_conn_param parameters{};
    parameters.private_data = data.data();
    parameters.private_data_len = length;
    return parameters;
  };
  rdma_cm_id* client = NewClient(true);
  auto parameters = with(57);
  EXPECT_EQ(-1, rdma_connect(client, &parameters));
  EXPECT_EQ(EINVAL, errno);
  parameters = with(56);
  EXPECT_EQ(0, rdma_connect(client, &parameters));
  CmSeen request;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &request));
  EXPECT_EQ(data.substr(0, 56), request.data);
  MakeQueuePair(request.id);
  EXPECT_EQ(-1, rdma_reject(request.id, data.data(), 149));
  EXPECT_EQ(EINVAL, errno);
  parameters = with(197);
  EXPECT_EQ(-1, rdma_accept(request.id, &parameters));
  EXPECT_EQ(EINVAL, errno);
  EXPECT_EQ(0, rdma_reject(request.id, data.data(), 148));
  CmSeen rejected;
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_REJECTED, &rejected));
  EXPECT_EQ(data.substr(0, 148), rejected.data);
  Destroy(client);
  Destroy(request.id);
}

TEST_F(CmConnect, WhatOneSideStartsTheOtherAnswers) {
  rdma_cm_id* client = NewClient(true);
  rdma_conn_param asked{};
  asked.responder_resources = 2;
  asked.initiator_depth = 16;
  ASSERT_EQ(0, rdma_connect(client, &asked));
  CmSeen request;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &request));
  EXPECT_EQ(16, request.responder_resources);
  EXPECT_EQ(2, request.initiator_depth);
  MakeQueuePair(request.id);
  rdma_conn_param given{};
  given.responder_resources = 8;
  given.initiator_depth = 1;
  ASSERT_EQ(0, rdma_accept(request.id, &given));
  CmSeen established;
  ASSERT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ESTABLISHED, &established));
  EXPECT_EQ(1, established.responder_resources);
  EXPECT_EQ(8, established.initiator_depth);
  EXPECT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_ESTABLISHED));
  ibv_qp_attr now{};
  ibv_qp_init_attr init{};
  const int mask = IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_MAX_DEST_RD_ATOMIC;
  ASSERT_EQ(0, ibv_query_qp(client->qp, &now, mask, &init));
  EXPECT_EQ(8, now.max_rd_atomic);
  EXPECT_EQ(1, now.max_dest_rd_atomic);
  ASSERT_EQ(0, ibv_query_qp(request.id->qp, &now, mask, &init));
  EXPECT_EQ(1, now.max_rd_atomic);
  EXPECT_EQ(8, now.max_dest_rd_atomic);
  Destroy(client);
  Destroy(request.id);
}

TEST_F(CmConnect, TheNumberInTheSourceAddressIsTheIdentifiersOwn) {
  sockaddr_in to{}, from{};
  to.sin_family = from.sin_family = AF_INET;
  to.sin_port = htons(PortOf(listener_));
  to.sin_addr.s_addr = from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const CmNumber free;
  rdma_cm_id* first = nullptr;
  rdma_cm_id* second = nullptr;
  ASSERT_EQ(0, rdma_create_id(client_channel_, &first, nullptr, RDMA_PS_TCP));
  ASSERT_EQ(0, rdma_create_id(client_channel_, &second, nullptr, RDMA_PS_TCP));
  const auto resolve = [&](rdma_cm_id* id) {
    return rdma_resolve_addr(id, reinterpret_cast<sockaddr*>(&from),
                             reinterpret_cast<sockaddr*>(&to), 2000);
  };
  from.sin_port = htons(free.number());
  EXPECT_EQ(-1, resolve(first));
  EXPECT_EQ(EADDRINUSE, errno);
  // The one that it happens to get is not given twice.
  from.sin_port = 0;
  ASSERT_EQ(0, resolve(first));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ADDR_RESOLVED));
  from.sin_port = rdma_get_src_port(first);
  EXPECT_NE(0, from.sin_port);
  EXPECT_EQ(-1, resolve(second));
  EXPECT_EQ(EADDRINUSE, errno);
  EXPECT_EQ(0, rdma_destroy_id(first));
  ASSERT_EQ(0, resolve(second));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ADDR_RESOLVED));
  EXPECT_EQ(from.sin_port, rdma_get_src_port(second));
  EXPECT_EQ(0, rdma_destroy_id(second));
}

TEST_F(CmConnect, AListenerOnEveryAddressHearsTheConfiguredOnesOnly) {
  rdma_cm_id* id = nullptr;
  sockaddr_in any{};
  any.sin_family = AF_INET;
  ASSERT_EQ(0, rdma_create_id(server_channel_, &id, nullptr, RDMA_PS_TCP));
  ASSERT_EQ(0, rdma_bind_addr(id, reinterpret_cast<sockaddr*>(&any)));
  ASSERT_EQ(0, rdma_listen(id, 4));
  any.sin_port = rdma_get_src_port(id);
  const auto question = CmNumber::Bytes({.nonce = 1});
  for (const char* address : {"127.0.0.1", "127.0.0.2"}) {
    const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    inet_pton(AF_INET, address, &any.sin_addr);
    ASSERT_EQ(0, connect(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof any));
    ASSERT_EQ(static_cast<ssize_t>(question.size()),
              send(fd.get(), question.data(), question.size(), 0));
    std::array<std::byte, 64> answer;  // or what the system says where nobody is
    const bool answers = recv(fd.get(), answer.data(), answer.size(), 0) > 0;
    EXPECT_EQ(std::string(address) == "127.0.0.1", answers) << address;
  }
  EXPECT_EQ(0, rdma_destroy_id(id));
}

// rsockets take the number of a UDP socket of theirs, and any TCP socket may have it.
TEST_F(CmConnect, ADatagramIdentifierIsBoundToAPortWhoseTcpNumberIsTaken) {
  const UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  ASSERT_EQ(0, bind(taken.get(), plain, size));
  ASSERT_EQ(0, listen(taken.get(), 1));
  ASSERT_EQ(0, getsockname(taken.get(), plain, &size));
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(0, rdma_create_id(server_channel_, &id, nullptr, RDMA_PS_UDP));
  ASSERT_EQ(0, rdma_bind_addr(id, plain));
  EXPECT_EQ(address.sin_port, rdma_get_src_port(id));
  EXPECT_NE(nullptr, id->verbs);
  EXPECT_EQ(-1, rdma_listen(id, 1));
  EXPECT_EQ(EADDRINUSE, errno);
  EXPECT_EQ(0, rdma_destroy_id(id));
}

TEST_F(CmConnect, WaitingForAnEventGoesOnAfterASignalIfTheHandlerSaysSo) {
  if (!kSignalsComeAtOnce) GTEST_SKIP();
  const auto wait = [this] {
    rdma_cm_event* event = nullptr;
    return rdma_get_cm_event(server_channel_, &event) == 0;
  };
  EXPECT_EQ(-1, Interrupted::ErrorOf(SA_RESTART, wait));
  EXPECT_EQ(EINTR, Interrupted::ErrorOf(0, wait));
}

TEST_F(CmConnect, AnEndedConnectionSaysWhenNothingOfItIsLeft) {
  const CmPair pair = Connect();
  ASSERT_EQ(0, rdma_disconnect(pair.client));
  for (rdma_event_channel* channel : {client_channel_, server_channel_}) {
    EXPECT_TRUE(Gets(channel, RDMA_CM_EVENT_DISCONNECTED));
  }
  for (rdma_event_channel* channel : {client_channel_, server_channel_}) {
    EXPECT_TRUE(Gets(channel, RDMA_CM_EVENT_TIMEWAIT_EXIT));
  }
  Destroy(pair.client);
  Destroy(pair.server);
}

TEST_F(CmConnect, ADatagramIdentifierThatIsRejectedLearnsWhatWasSaid) {
  rdma_cm_id* listener = Listen(RDMA_PS_UDP, 4);
  rdma_cm_id* client = NewClient(true, PortOf(listener), RDMA_PS_UDP);
  rdma_conn_param parameters{};
  ASSERT_EQ(0, rdma_connect(client, &parameters));
  CmSeen request, rejected;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &request));
  ASSERT_EQ(0, rdma_reject(request.id, "no way", 6));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_UNREACHABLE, &rejected));
  EXPECT_EQ("no way", rejected.data);
  EXPECT_EQ(2, rejected.status);  // InfiniBand 16.8.3: rejected by the service provider
  Destroy(client);
  Destroy(request.id);
}

TEST_F(CmConnect, AGroupThatWasJoinedUnnoticedGoesWithItsIdentifier) {
  Destroy(NewMember());
  EXPECT_FALSE(HasEvent(client_channel_));
}

TEST_F(CmConnect, AGroupThatWasJoinedUnnoticedMovesWithItsIdentifier) {
  rdma_cm_id* id = NewMember();
  ASSERT_EQ(0, rdma_migrate_id(id, server_channel_));
  EXPECT_FALSE(HasEvent(client_channel_));
  CmSeen joined;
  EXPECT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_MULTICAST_JOIN, &joined));
  EXPECT_EQ(id, joined.id);
  EXPECT_EQ(0, joined.status);
  EXPECT_EQ(0, rdma_leave_multicast(id, Plain(&group_)));
  Destroy(id);
}

TEST_F(CmConnect, AGroupThatWasLeftAfterItsIdentifierMovedHasNoEvent) {
  rdma_cm_id* id = NewMember();
  ASSERT_EQ(0, rdma_migrate_id(id, server_channel_));
  EXPECT_EQ(0, rdma_leave_multicast(id, Plain(&group_)));
  EXPECT_FALSE(HasEvent(client_channel_));
  EXPECT_FALSE(HasEvent(server_channel_));
  Destroy(id);
}

TEST_F(CmConnect, TheStepsHaveAnOrder) {
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(0, rdma_create_id(client_channel_, &id, nullptr, RDMA_PS_TCP));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = rdma_get_src_port(listener_);
  auto* plain = reinterpret_cast<sockaddr*>(&to);
  EXPECT_EQ(0, rdma_resolve_addr(id, nullptr, plain, 2000));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ADDR_RESOLVED));
  EXPECT_EQ(-1, rdma_resolve_addr(id, nullptr, plain, 2000));
  EXPECT_EQ(EINVAL, errno);
  rdma_conn_param parameters{};
  MakeQueuePair(id);
  EXPECT_EQ(-1, rdma_connect(id, &parameters));
  EXPECT_EQ(EINVAL, errno);
  EXPECT_EQ(0, rdma_resolve_route(id, 2000));
  EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ROUTE_RESOLVED));
  EXPECT_EQ(-1, rdma_resolve_route(id, 2000));
  EXPECT_EQ(EINVAL, errno);
  EXPECT_FALSE(HasEvent(client_channel_));
  Destroy(id);
}

TEST_F(CmConnect, AListenerOfIpv6AloneStandsBesideOneOfIpv4) {
  rdma_cm_id *first = nullptr, *second = nullptr;
  sockaddr_in any4{};
  any4.sin_family = AF_INET;
  ASSERT_EQ(0, rdma_create_id(server_channel_, &first, nullptr, RDMA_PS_TCP));
  ASSERT_EQ(0, rdma_bind_addr(first, reinterpret_cast<sockaddr*>(&any4)));
  ASSERT_EQ(0, rdma_listen(first, 4));
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  any6.sin6_port = rdma_get_src_port(first);
  for (int alone : {0, 1}) {
    ASSERT_EQ(0, rdma_create_id(server_channel_, &second, nullptr, RDMA_PS_TCP));
    ASSERT_EQ(0,
              rdma_set_option(second, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &alone, sizeof alone));
    const bool listens = rdma_bind_addr(second, reinterpret_cast<sockaddr*>(&any6)) == 0 &&
                         rdma_listen(second, 4) == 0;
    EXPECT_EQ(alone == 1, listens);
    EXPECT_EQ(0, rdma_destroy_id(second));
  }
  EXPECT_EQ(0, rdma_destroy_id(first));
}

}  // namespace
}  // namespace oxmem::nex
