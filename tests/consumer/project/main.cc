// Writes to memory through a source and reads it back, with the installed headers and libraries.
#include <array>
#include <cstddef>
#include <cstdio>

#include "oxmem/channel/tloe_source.h"
#include "transport/api/blocking.h"
#include "transport/api/source.h"
#include "transport/local/memory_source.h"

int main() {
  const auto source = oxmem::transport::ParseSource("mem:?size=1M");
  if (!source.ok()) return 1;
  const auto channel = oxmem::transport::OpenMemory(*source);
  if (!channel.ok()) return 1;
  std::array<std::byte, 4096> written;
  written.fill(std::byte{42});
  std::array<std::byte, 4096> read{};
  if (!oxmem::transport::BlockingWrite(**channel, 8192, written).ok()) return 1;
  if (!oxmem::transport::BlockingRead(**channel, 8192, read).ok() || read != written) return 1;
  // The other libraries are there too: a source of theirs is refused with its reason.
  const auto endpoint = oxmem::transport::ParseSource("tloe://nosuch0/02:00:00:00:00:01?size=1M");
  const auto refused = oxmem::channel::OpenTloe(*endpoint);
  if (refused.ok()) return 1;
  std::printf("%s works; %s\n", (*channel)->name().c_str(),
              std::string(refused.status().message()).c_str());
  return 0;
}
