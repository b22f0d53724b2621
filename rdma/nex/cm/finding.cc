// How identifiers find each other's TCP ports: questions and answers by UDP.
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "rdma/nex/cm/addressing.h"
#include "rdma/nex/cm/manager.h"
#include "rdma/nex/library.h"

namespace oxmem::nex {
namespace {

// So many questions are answered at once; then those who ask wait for a moment, so that they take
// neither a processor nor the lock for themselves.
constexpr int kAnswerShare = 256;
constexpr Duration kAnswerPause = Duration::Milliseconds(1);
// So many datagrams are looked at for an answer.
constexpr int kHearShare = 16;

// One byte more than a lookup has, so that what is longer is seen to be.
using Datagram = std::array<std::byte, kCmLookupBytes + 1>;

// That a host cannot be reached is told as well, as it is for TCP. What was told is told twice,
// and must be taken from both places.
void HearOfErrors(int fd) {
  const int one = 1;
  setsockopt(fd, SOL_IP, IP_RECVERR, &one, sizeof one);
  setsockopt(fd, SOL_IPV6, IPV6_RECVERR, &one, sizeof one);
}

void DropErrors(int fd) {
  std::byte byte;
  for (int i = 0; i < kHearShare; ++i) {
    if (recv(fd, &byte, sizeof byte, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
  }
}

}  // namespace

CmManager::Place* CmManager::PlaceOf(Id& id, int fd) {
  for (Place& place : id.places) {
    if (place.fd.get() == fd) return &place;
  }
  return nullptr;
}

void CmManager::AnswerQuestions(Id& id, const Place& place) {
  for (int i = 0; i < kAnswerShare; ++i) {
    Datagram bytes;
    sockaddr_in6 from{};
    socklen_t size = sizeof from;
    auto* address = reinterpret_cast<sockaddr*>(&from);
    const ssize_t got =
        recvfrom(place.fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT, address, &size);
    if (got < 0) return;
    const auto question = DecodeLookup(std::span(bytes).first(static_cast<std::size_t>(got)));
    if (!question || question->answers) continue;
    CmLookup answer{.answers = true, .nonce = question->nonce, .port = place.listens_at};
    if (answer.port != 0) {
      answer.ticket =
          tickets_.For(GidOf(from), ntohs(from.sin6_port), place.gid, ntohs(id.source.sin6_port));
    }
    std::array<std::byte, kCmLookupBytes> said;
    EncodeLookup(answer, said);
    // Where there is no room for it, the question comes again.
    sendto(place.fd.get(), said.data(), said.size(), MSG_DONTWAIT, address, size);
  }
  id.answers_at = Now() + kAnswerPause;
  for (const Place& other : id.places) Forget(other.fd.get());
}

// Its only place is that of its route. It is connected to the number that is asked, so it hears
// from nobody else, and of errors.
void CmManager::Ask(Id& id, bool first) {
  const int fd = id.places[0].fd.get();
  // Nobody has a number that happens to be its own.
  if (id.places[0].gid == GidOf(id.destination) &&
      id.source.sin6_port == id.destination.sin6_port) {
    OnRefused(id);
    return;
  }
  Watch(id, fd, EPOLLIN);
  if (first) {
    id.answers_at = Instant::Never();
    const sockaddr_in6 to = AddressOf(GidOf(id.destination), ntohs(id.destination.sin6_port));
    HearOfErrors(fd);
    id.nonce = Engine::Random();
    if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      GiveUp(id, errno);
      return;
    }
  }
  std::array<std::byte, kCmLookupBytes> bytes;
  EncodeLookup({.nonce = id.nonce}, bytes);
  if (send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT) < 0) OnUnheard(id, errno);
}

// What the system says of a question, or of an earlier one. Where it had no room, it comes again.
void CmManager::OnUnheard(Id& id, int error) {
  DropErrors(id.places[0].fd.get());
  if (error == EAGAIN || error == EINTR || error == ENOBUFS) return;
  if (error != ECONNREFUSED) {
    GiveUp(id, error);
    return;
  }
  if (!id.asking.was_refused()) ShareRefusal(id);
  OnRefused(id);
}

void CmManager::HearAnswers(Id& id, const Place& place) {
  if (!id.asking.asks() || id.sockets.empty()) return;
  const int fd = place.fd.get();
  for (int i = 0; i < kHearShare; ++i) {
    Datagram bytes;
    const ssize_t got = recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0) {
      OnUnheard(id, errno);
      return;
    }
    const auto answer = DecodeLookup(std::span(bytes).first(static_cast<std::size_t>(got)));
    if (!answer || !answer->answers || answer->nonce != id.nonce) continue;
    if (answer->port == 0) {
      OnRefused(id);
      return;
    }
    id.ticket = answer->ticket;
    Forget(fd);
    ConnectTo(id, answer->port);
    return;
  }
}

// A system says only now and then that nobody has a number, and everybody who asks is to know.
void CmManager::ShareRefusal(const Id& refused) {
  const auto same = [&](const Id& id) {
    return &id != &refused && id.has_places() && id.state() == State::kConnecting &&
           id.asking.asks() && !id.asking.was_refused() &&
           id.destination.sin6_port == refused.destination.sin6_port &&
           GidOf(id.destination) == GidOf(refused.destination);
  };
  for (auto& [handle, id] : ids_) {
    if (same(*id)) OnRefused(*id);
  }
}

void CmManager::OnRefused(Id& id) {
  if (id.asking.OnRefused(Now()) == CmAsking::Step::kRefused) GiveUp(id, ECONNREFUSED);
}

void CmManager::OnAskingDeadline(Id& id, Instant now) {
  switch (id.asking.OnDeadline(now)) {
    case CmAsking::Step::kNothing:
      return;
    case CmAsking::Step::kRefused:
      GiveUp(id, ECONNREFUSED);
      return;
    case CmAsking::Step::kUnanswered:
      GiveUp(id, ETIMEDOUT);
      return;
    case CmAsking::Step::kAsk:
      break;
  }
  if (id.sockets.empty()) {
    std::uint16_t port = id.has_places() ? std::uint16_t{0} : ntohs(id.source.sin6_port);
    UniqueFd fd;
    if (const int error = MakeSocket(SOCK_STREAM, true, GidOf(id.source), &port, &fd); error != 0) {
      GiveUp(id, error);
      return;
    }
    id.sockets.push_back(std::move(fd));
  }
  if (id.has_places()) {
    Ask(id, false);
  } else {
    ConnectTo(id, ntohs(id.destination.sin6_port));
  }
}

}  // namespace oxmem::nex
