#ifndef TRANSPORT_LOCAL_LOCAL_CLIENT_H_
#define TRANSPORT_LOCAL_LOCAL_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"
#include "transport/local/local_wire.h"
#include "transport/local/mapped_memory.h"

namespace oxmem::transport {

// What a client wants of a node on this host.
struct LocalTarget {
  std::vector<std::string> paths;  // of the socket; the first that a node listens at
  std::string region;              // empty: the only one
  bool read_only = false;
};

// One connection to a node, from connecting to the memory in hand. Nothing waits: the owner calls
// Progress when the socket is readable.
//
//   Connect ──▶ hello sent ──▶ offer and descriptor received, memory mapped
class LocalConnection {
 public:
  // Connects and says hello. The error tells what to do about it.
  static absl::StatusOr<std::unique_ptr<LocalConnection>> Connect(const LocalTarget& target);

  int socket() const { return socket_.get(); }
  const std::string& path() const { return path_; }

  // Takes the node's answer if it is there. False while it is not; an error if it was a refusal, or
  // what was offered cannot be used.
  absl::StatusOr<bool> Progress();

  // After Progress has returned true.
  const LocalOffer& offer() const { return offer_; }
  std::string region() const;  // its name, fit to be shown
  const std::shared_ptr<MappedMemory>& memory() const { return memory_; }

 private:
  LocalConnection(UniqueFd socket, std::string path)
      : socket_(std::move(socket)), path_(std::move(path)) {}
  absl::Status Accept(UniqueFd fd);
  absl::Status CheckDescriptor(int fd) const;

  UniqueFd socket_;
  std::string path_;
  LocalOffer offer_;
  std::shared_ptr<MappedMemory> memory_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_LOCAL_CLIENT_H_
