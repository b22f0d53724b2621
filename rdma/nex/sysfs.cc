#include "rdma/nex/sysfs.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace oxmem::nex {
namespace {

using Parts = std::vector<std::string_view>;

Parts Split(std::string_view path) {
  Parts parts;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return parts;
}

SysfsEntry Text(std::string text) { return {false, std::move(text) + "\n", {}}; }
SysfsEntry Folder(std::vector<std::string> names) { return {true, {}, std::move(names)}; }

SysfsEntry Numbers(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return Folder(std::move(names));
}

std::string Hex(const std::uint8_t* bytes, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; i += 2) {
    char group[8];
    std::snprintf(group, sizeof group, "%s%02x%02x", i == 0 ? "" : ":", bytes[i], bytes[i + 1]);
    text += group;
  }
  return text;
}

std::string Hex(std::uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%x", value);
  return text;
}

std::string GuidText(std::uint64_t guid) {
  std::uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::uint8_t>(guid >> (56 - 8 * i));
  return Hex(bytes, sizeof bytes);
}

// The address that a part of a path numbers.
const SysfsDevice::Address* Numbered(const SysfsDevice& device, std::string_view part) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  const bool plain =
      error == std::errc() && end == part.data() + part.size() && part == std::to_string(index);
  return plain && index < device.addresses.size() ? &device.addresses[index] : nullptr;
}

std::vector<std::string> Interfaces(const SysfsDevice& device) {
  std::vector<std::string> names;
  for (const auto& address : device.addresses) {
    if (std::find(names.begin(), names.end(), address.interface) == names.end()) {
      names.push_back(address.interface);
    }
  }
  return names;
}

std::optional<SysfsEntry> GidAttributes(const SysfsDevice& device, const Parts& parts) {
  if (parts.empty()) return Folder({"ndevs", "types"});
  if (parts[0] != "ndevs" && parts[0] != "types") return std::nullopt;
  if (parts.size() == 1) return Numbers(device.addresses.size());
  const auto* address = Numbered(device, parts[1]);
  if (address == nullptr || parts.size() > 2) return std::nullopt;
  return Text(parts[0] == "types" ? "RoCE v2" : address->interface);
}

std::optional<SysfsEntry> Port(const SysfsDevice& device, const Parts& parts) {
  if (parts.empty()) {
    return Folder({"cap_mask", "gid_attrs", "gids", "lid", "lid_mask_count", "link_layer",
                   "phys_state", "pkeys", "rate", "sm_lid", "sm_sl", "state"});
  }
  const std::string_view name = parts[0];
  if (name == "gid_attrs") return GidAttributes(device, Parts(parts.begin() + 1, parts.end()));
  if (name == "gids" && parts.size() == 1) return Numbers(device.addresses.size());
  if (name == "gids" && parts.size() == 2) {
    const auto* address = Numbered(device, parts[1]);
    if (address == nullptr) return std::nullopt;
    return Text(Hex(address->gid.data(), address->gid.size()));
  }
  if (name == "pkeys" && parts.size() == 1) return Numbers(1);
  if (name == "pkeys" && parts.size() == 2 && parts[1] == "0") return Text("0xffff");
  if (parts.size() > 1) return std::nullopt;
  if (name == "cap_mask") return Text(Hex(device.port_capabilities));
  if (name == "lid") return Text(Hex(device.lid));
  if (name == "lid_mask_count" || name == "sm_sl") return Text("0");
  if (name == "sm_lid") return Text("0x0");
  if (name == "link_layer") return Text("Ethernet");
  if (name == "phys_state") return Text("5: LinkUp");
  if (name == "rate") return Text("100 Gb/sec (4X EDR)");
  if (name == "state") return Text("4: ACTIVE");
  return std::nullopt;
}

std::optional<SysfsEntry> Device(const SysfsDevice& device, const Parts& parts) {
  if (parts.empty()) {
    return Folder({"device", "fw_ver", "hca_type", "node_desc", "node_guid", "node_type", "ports",
                   "sys_image_guid"});
  }
  const std::string_view name = parts[0];
  if (name == "device") {
    if (parts.size() == 1) return Folder({"net"});
    const auto interfaces = Interfaces(device);
    if (parts[1] == "net" && parts.size() == 2) return Folder(interfaces);
    if (parts[1] != "net" || parts.size() > 3) return std::nullopt;
    if (std::find(interfaces.begin(), interfaces.end(), parts[2]) == interfaces.end()) {
      return std::nullopt;
    }
    return Folder({});
  }
  if (name == "ports" && parts.size() == 1) return Folder({"1"});
  if (name == "ports" && parts[1] == "1")
    return Port(device, Parts(parts.begin() + 2, parts.end()));
  if (parts.size() > 1) return std::nullopt;
  if (name == "fw_ver") return Text(device.firmware);
  if (name == "hca_type" || name == "node_desc") return Text("nex");
  if (name == "node_guid" || name == "sys_image_guid") return Text(GuidText(device.node_guid));
  if (name == "node_type") return Text("1: CA");
  return std::nullopt;
}

}  // namespace

bool MayBeSysfs(const char* path) {
  return path != nullptr && std::strncmp(path, "/sys/", 5) == 0 &&
         std::strstr(path + 5, "infiniband") != nullptr;
}

std::string CleanSysfsPath(std::string_view path) {
  std::string clean;
  for (const std::string_view part : Split(path)) clean.append("/").append(part);
  return clean;
}

bool IsSysfsFolder(std::string_view path) { return CleanSysfsPath(path) == kSysfsFolder; }

std::optional<SysfsEntry> FindSysfs(const SysfsDevice& device, std::string_view path) {
  if (path.empty() || path[0] != '/') return std::nullopt;
  const Parts parts = Split(path);
  if (parts.size() < 3 || parts[0] != "sys" || parts[1] != "class" || parts[2] != "infiniband") {
    return std::nullopt;
  }
  if (parts.size() == 3) return Folder({device.name});
  if (parts[3] != device.name) return std::nullopt;
  return Device(device, Parts(parts.begin() + 4, parts.end()));
}

}  // namespace oxmem::nex
