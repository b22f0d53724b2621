#ifndef TRANSPORT_LOCAL_LOCAL_SERVER_H_
#define TRANSPORT_LOCAL_LOCAL_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/clock.h"
#include "transport/base/counter.h"
#include "transport/base/log.h"
#include "transport/base/unique_fd.h"
#include "transport/local/local_wire.h"

namespace oxmem::transport {

// A region that processes of this host may map.
struct LocalRegion {
  std::string name;
  int fd = -1;  // a memfd or file; the caller's, valid as long as the server
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  bool read_only = false;
  bool persistent = false;
  // Makes what was written durable; may take its time, the server does nothing else meanwhile. May
  // be empty if there is nothing to do.
  std::function<absl::Status()> sync;
};

struct LocalServerOptions {
  std::string path;
  mode_t mode = 0600;              // of the socket: who may connect
  std::vector<uid_t> allow_users;  // besides root and the node's own; empty: whom the mode lets in
  std::size_t max_clients = 1024;
  Duration handshake_timeout = Duration::Seconds(2);
};

struct LocalServerStats {
  Counter clients;    // connected now
  Counter accepted;   // hellos answered with memory
  Counter refused;    // hellos answered with an error, and connections that were too many
  Counter malformed;  // connections ended because of what they sent, or said nothing in time
  Counter flushes;
};

// Hands regions to clients on this host: the descriptor of the memory goes over a Unix socket, and
// from then on the client reads and writes without the node. The connection stays: its end tells
// each side that the other is gone, and flushes of persistent regions go over it.
//
// Threads: one owns it and makes every call but stats(). Nothing waits. A region that is read-only,
// or wanted so, goes out as a descriptor opened for reading.
class LocalServer {
 public:
  static absl::StatusOr<std::unique_ptr<LocalServer>> Listen(LocalServerOptions options,
                                                             std::vector<LocalRegion> regions);
  // Ends all connections and removes the socket.
  ~LocalServer();
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  // Readable, for poll or epoll, while there is something for Poll to do.
  int event_fd() const { return epoll_.get(); }
  Instant next_deadline() const;
  void Poll(Instant now);

  // How clients write it: "unix:/run/oxmem/node.sock".
  const std::string& name() const { return name_; }
  const LocalServerStats& stats() const { return stats_; }

 private:
  struct Region : LocalRegion {
    UniqueFd read_only_fd;
  };
  struct Client {
    UniqueFd socket;
    const Region* region = nullptr;  // none before its hello
    Instant deadline;                // of the hello
  };

  explicit LocalServer(LocalServerOptions options);

  absl::Status AddRegion(LocalRegion region);
  absl::Status StartListening();
  void AcceptClients(Instant now);
  // False if the connection is over.
  bool ServeClient(Client& client);
  bool Handle(Client& client, const LocalMessage& message);
  LocalOffer Answer(const LocalHello& hello, int socket, const Region** region) const;
  const Region* FindRegion(const std::string& name) const;
  std::string RegionNames() const;
  void RemoveClient(int socket);

  const LocalServerOptions options_;
  const std::string name_;
  std::vector<std::unique_ptr<Region>> regions_;
  UniqueFd epoll_;
  UniqueFd listener_;
  dev_t socket_device_ = 0;
  ino_t socket_inode_ = 0;
  std::vector<std::unique_ptr<Client>> clients_;
  LocalServerStats stats_;
  LogLimiter log_limiter_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_LOCAL_SERVER_H_
