#include "transport/runtime/channel_port.h"

#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "transport/base/check.h"
#include "transport/runtime/one_time_event.h"

namespace oxmem::transport {
namespace {

constexpr std::size_t kBatch = 32;

class WaitingRequest final : public PortRequest {
 public:
  void OnDone() override { done_.Notify(); }
  void Wait() { done_.Wait(); }

 private:
  OneTimeEvent done_;
};

}  // namespace

void PortRequest::Run() { port_->Enqueue(*this); }

absl::StatusOr<ChannelPort*> ChannelPort::Add(Reactor& reactor, std::unique_ptr<Channel> channel) {
  std::unique_ptr<ChannelPort> port(new ChannelPort(reactor, std::move(channel)));
  ChannelPort* const raw = port.get();
  absl::Status status = absl::UnavailableError("the I/O thread is stopping");
  // Only a function that ran has changed the status.
  reactor.Call([&] { status = reactor.Add(std::move(port)); });
  if (!status.ok()) return status;
  return raw;
}

bool ChannelPort::Start(PortRequest& request) {
  request.port_ = this;
  if (!reactor_.on_thread()) return reactor_.Post(request);
  Enqueue(request);
  return true;
}

Completion ChannelPort::Run(const Request& request) {
  OXMEM_CHECK(!reactor_.on_thread());
  WaitingRequest waiting;
  waiting.request = request;
  while (!Start(waiting)) {
    if (reactor_.stopping()) return {.cookie = request.cookie, .code = Code::kClosed};
    std::this_thread::yield();
  }
  waiting.Wait();
  return waiting.completion;
}

void ChannelPort::Enqueue(PortRequest& request) {
  request.next_ = nullptr;
  (first_ == nullptr ? first_ : last_->next_) = &request;
  last_ = &request;
  fresh_ = true;
}

// The channel carries the address of the request as its cookie.
bool ChannelPort::SubmitWaiting() {
  bool worked = false;
  fresh_ = false;
  while (first_ != nullptr) {
    std::array<Request, kBatch> batch;
    std::size_t count = 0;
    for (PortRequest* each = first_; each != nullptr && count < kBatch; each = each->next_) {
      batch[count] = each->request;
      batch[count++].cookie = reinterpret_cast<std::uintptr_t>(each);
    }
    const std::size_t taken = channel_->Submit(std::span(batch).first(count));
    for (std::size_t i = 0; i < taken; ++i) first_ = first_->next_;
    in_flight_ += taken;
    worked = worked || taken != 0;
    if (taken < count) break;
  }
  return worked;
}

bool ChannelPort::Poll() {
  bool worked = SubmitWaiting();
  std::array<Completion, kBatch> completions;
  std::size_t count = completions.size();
  while (count == completions.size()) {
    count = channel_->Poll(completions);
    in_flight_ -= count;
    worked = worked || count != 0;
    for (const Completion& completion : std::span(completions).first(count)) {
      auto* const request = reinterpret_cast<PortRequest*>(completion.cookie);
      request->completion = completion;
      request->completion.cookie = request->request.cookie;
      request->OnDone();
    }
  }
  return worked;
}

}  // namespace oxmem::transport
