#ifndef TRANSPORT_API_SOURCE_H_
#define TRANSPORT_API_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace oxmem::transport {

// Where memory comes from, as a user writes it. Plain data; what the words mean is the business of
// the transport that the scheme names.
//
//   source     = scheme ":" ( "//" authority [ "/" path ] | path | nested ) [ "?" parameters ]
//   nested     = "(" source *( "," source ) ")"
//   parameters = key "=" value *( "&" key "=" value )
//   scheme     = letter *( letter | digit | "+" | "-" | "." )       in either case, kept in lower
//   key        = 1*( letter | digit | "_" | "-" | "." )
//
// Authority, path and values may carry any byte but the control characters; those that the grammar
// uses, and spaces, are written %XX. A comma needs that only within a nested source. Parentheses
// are always either nesting or %28 and %29.
struct Source {
  struct Parameter {
    std::string key;
    std::string value;
    friend bool operator==(const Parameter&, const Parameter&) = default;
  };

  std::string scheme;
  bool has_authority = false;         // "//" stands after the scheme
  std::string authority;              // "eth1", "host:port", "[::1]:4000"
  std::string path;                   // with an authority empty or beginning with "/"
  std::vector<Source> nested;         // then authority and path are empty
  std::vector<Parameter> parameters;  // in the order written; no key twice

  // The path without its leading slash: "04:3f:72:dd:0b:05", "REGION".
  std::string_view path_name() const;

  // nullptr if the key is not there. Valid as long as the source.
  const std::string* Find(std::string_view key) const;

  // The canonical text: ParseSource of it gives an equal source, and equal sources have equal text.
  std::string Format() const;

  // The canonical text without parameters: what names and messages use ("tloe://eth1/04:3f:…").
  std::string FormatWithoutParameters() const;

  friend bool operator==(const Source&, const Source&) = default;
};

inline constexpr int kMaxSourceDepth = 8;              // of nesting; a plain source is 1 deep
inline constexpr std::size_t kMaxSourceBytes = 16384;  // of text
inline constexpr std::size_t kMaxNestedSources = 64;   // within one pair of parentheses

// Errors are one line that quotes the source and says what is wrong where.
absl::StatusOr<Source> ParseSource(std::string_view text);

struct HostPort {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without its brackets
  uint16_t port = 0;
};

// "HOST:PORT" or "[IPV6]:PORT", port 1 to 65535.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_SOURCE_H_
