#include "apps/serve/local_endpoint.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/common/runtime_directory.h"
#include "transport/api/option_reader.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/status.h"
#include "transport/local/shared_channel.h"

namespace oxmem::apps {
namespace {

using transport::LocalRegion;
using transport::LocalServer;
using transport::LocalServerOptions;
using transport::Source;

absl::Status Wrong(const Source& listen, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("cannot listen on \"", listen.Format(), "\": ", what));
}

absl::StatusOr<mode_t> ModeOf(const Source& listen, const std::string& text) {
  mode_t mode = 0;
  for (const char c : text) {
    if (c < '0' || c > '7' || mode > 077) {
      return Wrong(listen, absl::StrCat("mode=", text, " is not an octal number up to 0777"));
    }
    mode = mode * 8 + static_cast<mode_t>(c - '0');
  }
  return mode;
}

// Where sockets go by default nobody may have been yet since the host was started.
absl::Status PrepareDirectoryOf(const std::string& socket_path) {
  const absl::StatusOr<std::string> runtime = RuntimeDirectory();
  if (!runtime.ok() || std::filesystem::path(socket_path).parent_path() != *runtime) {
    return absl::OkStatus();
  }
  return MakeRuntimeDirectory().status();
}

absl::StatusOr<LocalServerOptions> ParseListen(const Source& listen, const EndpointOptions& all) {
  LocalServerOptions options;
  transport::OptionReader reader(listen);
  const std::string mode = reader.Text("mode", "0600");
  OXMEM_RETURN_IF_ERROR(reader.Finish());
  OXMEM_ASSIGN_OR_RETURN(options.mode, ModeOf(listen, mode));
  options.max_clients = all.max_connections;
  if (!all.allowed.empty()) {
    return Wrong(listen, "--allow is for addresses; here mode= and the socket's directory say who");
  }
  if (listen.scheme == "unix") {
    if (listen.has_authority || listen.path.empty()) {
      return Wrong(listen, "wants the path of a socket (write unix:/run/oxmem/node.sock)");
    }
    options.path = listen.path;
    return options;
  }
  if (!listen.path_name().empty()) {
    return Wrong(listen, "has a region's name; a node listens for all (write shm://NAME)");
  }
  OXMEM_ASSIGN_OR_RETURN(options.path, transport::ListenPathOfName(listen.authority));
  return options;
}

absl::StatusOr<std::vector<LocalRegion>> RegionsOf(const Source& listen, const RegionStore& store) {
  std::vector<LocalRegion> regions;
  for (const RegionStore::Region& region : store.regions()) {
    if (region.backing.fd() < 0) {
      return Wrong(listen, absl::StrCat("region \"", region.spec.name, "\" is ",
                                        node::FormatBacking(region.spec.backing),
                                        " memory, which no other process can map; use "
                                        "backing=memfd or backing=file:PATH"));
    }
    LocalRegion local{.name = region.spec.name,
                      .fd = region.backing.fd(),
                      .offset = 0,
                      .size_bytes = region.spec.backing.size_bytes,
                      .read_only = region.spec.read_only,
                      .persistent = region.backing.persistent(),
                      .sync = {}};
    if (local.persistent) local.sync = [backing = &region.backing] { return backing->Sync(); };
    regions.push_back(std::move(local));
  }
  return regions;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Endpoint>> LocalEndpoint::Open(const Source& listen,
                                                              const RegionStore& store,
                                                              const EndpointOptions& options) {
  OXMEM_ASSIGN_OR_RETURN(LocalServerOptions server_options, ParseListen(listen, options));
  OXMEM_ASSIGN_OR_RETURN(std::vector<LocalRegion> regions, RegionsOf(listen, store));
  OXMEM_RETURN_IF_ERROR(PrepareDirectoryOf(server_options.path));
  OXMEM_ASSIGN_OR_RETURN(auto server,
                         LocalServer::Listen(std::move(server_options), std::move(regions)));
  UniqueFd stop_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event.valid()) return ErrnoStatus(errno, "eventfd");
  const std::string name =
      listen.scheme == "shm" ? absl::StrCat("shm://", listen.authority) : server->name();
  return std::unique_ptr<Endpoint>(
      new LocalEndpoint(name, std::move(server), std::move(stop_event)));
}

LocalEndpoint::LocalEndpoint(std::string name, std::unique_ptr<LocalServer> server,
                             UniqueFd stop_event)
    : name_(std::move(name)), server_(std::move(server)), stop_event_(std::move(stop_event)) {}

LocalEndpoint::~LocalEndpoint() {
  RequestStop();
  Join();
}

absl::Status LocalEndpoint::Start() {
  thread_ = std::thread([this] { Serve(); });
  return absl::OkStatus();
}

void LocalEndpoint::Serve() {
  while (!stop_.load(std::memory_order_relaxed)) {
    server_->Poll(Now());
    std::array<pollfd, 2> fds = {
        {{server_->event_fd(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}}};
    poll(fds.data(), fds.size(), PollTimeoutMs(Now(), server_->next_deadline()));
  }
}

void LocalEndpoint::RequestStop() {
  stop_.store(true, std::memory_order_relaxed);
  (void)eventfd_write(stop_event_.get(), 1);
}

void LocalEndpoint::Join() {
  if (thread_.joinable()) thread_.join();
}

Part LocalEndpoint::Figures() const {
  const transport::LocalServerStats& stats = server_->stats();
  Part part;
  part.kind = "node";
  part.name = name_;
  part.figures = {
      {"clients", true, "processes that map a region now", stats.clients.value()},
      {"accepted", false, "processes that got a region", stats.accepted.value()},
      {"refused", false, "processes that got none", stats.refused.value()},
      {"malformed", false, "connections ended for what they sent", stats.malformed.value()},
      {"flushes", false, "of persistent regions", stats.flushes.value()}};
  return part;
}

}  // namespace oxmem::apps
