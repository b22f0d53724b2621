#include "apps/mount/keeping.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <utility>

#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

// Somebody who kills keepers for ever gets no processes for ever.
constexpr std::size_t kMostStarts = 5;
constexpr Duration kStartPeriod = Duration::Seconds(60);

}  // namespace

absl::StatusOr<std::unique_ptr<Keeping>> Keeping::Start(KeeperPlan plan) {
  std::unique_ptr<Keeping> keeping(new Keeping(std::move(plan)));
  if (keeping->plan_.patience != Duration()) {
    OXMEM_ASSIGN_OR_RETURN(keeping->keeper_, Keeper::Start(keeping->plan_));
  }
  return keeping;
}

Keeping::~Keeping() {
  if (keeper_ != nullptr && server_.loop != nullptr) server_.loop->Unwatch(keeper_->fd());
}

absl::Status Keeping::Keep(Server server) {
  server_ = std::move(server);
  if (keeper_ == nullptr) return absl::OkStatus();
  OXMEM_RETURN_IF_ERROR(keeper_->Keep(server_.things()));
  if (!keeper_->deaf().empty()) {
    spdlog::warn("oxmem mount --replace will not work: {}", keeper_->deaf());
  }
  return Watch();
}

absl::Status Keeping::Watch() {
  return server_.loop->Watch(keeper_->fd(), EPOLLIN, [this](uint32_t) { Hear(); });
}

void Keeping::Hear() {
  const int fd = keeper_->fd();
  switch (keeper_->Hear()) {
    case Keeper::Heard::kNothing:
      return;
    case Keeper::Heard::kLeave:
      server_.leave();
      return;
    case Keeper::Heard::kEnded:
      server_.loop->Unwatch(fd);
      keeper_.reset();
      ClearAway();
      // One that was lent ends when its successor has gone.
      if (!std::exchange(lent_, false)) StartAgain();
  }
}

void Keeping::ClearAway() const {
  const std::string path = server_.things().socket_path;
  if (!path.empty()) unlink(path.c_str());
}

void Keeping::StartAgain() {
  const Instant now = Now();
  std::erase_if(starts_, [now](Instant at) { return now - at > kStartPeriod; });
  if (starts_.size() >= kMostStarts) {
    const Duration delay = starts_.front() + kStartPeriod - now;
    spdlog::warn(
        "{}: its keeper was killed again and again; until the next one is started, in {:.0f} s, "
        "the mount does not survive this process",
        server_.directory, delay.seconds());
    StartAgainLater(delay);
    return;
  }
  starts_.push_back(now);
  const absl::Status begun = Begin(plan_);
  if (begun.ok()) {
    spdlog::warn("{}: its keeper was killed; another one is there", server_.directory);
    return;
  }
  spdlog::warn(
      "{}: its keeper was killed and the next one could not be started; the mount does not survive "
      "this process: {}",
      server_.directory, std::string(begun.message()));
  StartAgainLater(kStartPeriod);
}

void Keeping::StartAgainLater(Duration delay) {
  // One that was lent meanwhile ends by itself.
  server_.loop->After(delay, [this] { lent_ ? StartAgainLater(kStartPeriod) : StartAgain(); });
}

absl::Status Keeping::Begin(const KeeperPlan& plan) {
  OXMEM_ASSIGN_OR_RETURN(auto keeper, Keeper::StartAnew(plan));
  OXMEM_RETURN_IF_ERROR(keeper->Keep(server_.things()));
  keeper_ = std::move(keeper);
  return Watch();
}

void Keeping::Update() {
  // One that does not hear it has been killed, and the next one gets the new record.
  if (keeper_ != nullptr) (void)keeper_->Update(server_.things().record);
}

absl::Status Keeping::Lend() {
  if (keeper_ != nullptr) {
    return keeper_->deaf().empty() ? absl::OkStatus()
                                   : absl::FailedPreconditionError(keeper_->deaf());
  }
  KeeperPlan plan = plan_;
  plan.patience = Duration();
  plan.restart = nullptr;
  OXMEM_RETURN_IF_ERROR(Begin(plan));
  lent_ = true;
  if (keeper_->deaf().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(keeper_->deaf());
}

bool Keeping::SayLeft() {
  if (keeper_ == nullptr) return false;
  server_.loop->Unwatch(keeper_->fd());
  if (keeper_->SayLeft()) return true;
  keeper_.reset();
  return false;
}

void Keeping::GoesOn() {
  ClearAway();
  if (!std::exchange(lent_, false)) StartAgain();
}

}  // namespace oxmem::apps
