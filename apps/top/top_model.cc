#include "apps/top/top_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/common/cli.h"

namespace oxmem::apps {
namespace {

// A counter of the row, and what parts of several kinds call it.
constexpr std::array<const char*, 7> kCounters = {
    "reads", "read_bytes", "writes", "write_bytes", "failures", "resends", "channel_resends"};

const Json* Member(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() ? nullptr : &*found;
}

std::string TextOf(const Json& json, const char* key) {
  const Json* value = Member(json, key);
  if (value == nullptr) return "";
  return Printable(value->is_string() ? value->get<std::string>() : JsonText(*value));
}

uint64_t CountOf(const Json& json, const char* key) {
  const Json* value = Member(json, key);
  if (value == nullptr || !value->is_number_integer()) return 0;
  return value->is_number_unsigned() || value->get<int64_t>() > 0 ? value->get<uint64_t>() : 0;
}

// Parts that move data; a region, for one, does not.
bool Counts(const Json& part) {
  const Json* counters = Member(part, "counters");
  return counters != nullptr && counters->is_object() && counters->contains("reads");
}

std::optional<TopLatencies> Percentiles(const std::map<uint64_t, uint64_t>& buckets) {
  uint64_t total = 0;
  for (const auto& [up_to_ns, count] : buckets) total += count;
  if (total == 0) return std::nullopt;
  const auto at = [&](double fraction) {
    const auto rank = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(total)));
    uint64_t seen = 0;
    for (const auto& [up_to_ns, count] : buckets) {
      seen += count;
      if (seen >= rank) return up_to_ns;
    }
    return buckets.rbegin()->first;
  };
  return TopLatencies{at(0.5), at(0.99), at(0.999)};
}

// "" if nothing shrank; counters only grow, unless they belong to another process now.
template <typename Map>
bool Shrank(const Map& before, const Map& now) {
  for (const auto& [key, count] : before) {
    const auto found = now.find(key);
    if ((found == now.end() ? 0 : found->second) < count) return true;
  }
  return false;
}

}  // namespace

void TopModel::Reading::Add(const Reading& other) {
  for (const auto& [key, count] : other.counters) counters[key] += count;
  for (const auto& [up_to_ns, count] : other.buckets) buckets[up_to_ns] += count;
  in_flight += other.in_flight;
}

TopModel::Reading TopModel::ReadingOf(const Json& part) {
  Reading reading;
  const Json& counters = part.at("counters");
  for (const char* name : kCounters) reading.counters[name] = CountOf(counters, name);
  reading.in_flight = CountOf(counters, "in_flight");
  for (const auto& [key, value] : part.items()) {
    if (!value.is_object()) continue;
    const Json* buckets = Member(value, "buckets_ns");
    if (buckets == nullptr || !buckets->is_array()) continue;
    for (const Json& bucket : *buckets) {
      if (!bucket.is_array() || bucket.size() != 2 || !bucket[0].is_number_unsigned() ||
          !bucket[1].is_number_unsigned()) {
        continue;
      }
      reading.buckets[bucket[0].get<uint64_t>()] += bucket[1].get<uint64_t>();
    }
  }
  return reading;
}

TopRow TopModel::RowOf(const std::string& key, Reading reading, Readings* next) const {
  TopRow row;
  row.in_flight = reading.in_flight;
  const auto found = before_.find(key);
  if (found != before_.end() && seconds_ > 0 && !Shrank(found->second.counters, reading.counters) &&
      !Shrank(found->second.buckets, reading.buckets)) {
    const Reading& before = found->second;
    const auto rate = [&](const char* name) {
      return static_cast<double>(reading.counters.at(name) - before.counters.at(name)) / seconds_;
    };
    row.rates = TopRates{.reads = rate("reads"),
                         .read_bytes = rate("read_bytes"),
                         .writes = rate("writes"),
                         .write_bytes = rate("write_bytes"),
                         .resends = rate("resends") + rate("channel_resends"),
                         .failures = rate("failures")};
    std::map<uint64_t, uint64_t> since = reading.buckets;
    for (const auto& [up_to_ns, count] : before.buckets) since[up_to_ns] -= count;
    row.latencies = Percentiles(since);
  }
  next->insert_or_assign(key, std::move(reading));
  return row;
}

void TopModel::AddProcess(const Json& process, std::vector<TopRow>* rows, Readings* next) const {
  const std::string command = TextOf(process, "command");
  const std::string prefix = absl::StrCat(TextOf(process, "pid"), " ");
  const std::size_t head = rows->size();
  rows->emplace_back();
  Reading sum;
  if (const Json* parts = Member(process, "parts"); parts != nullptr && parts->is_array()) {
    for (const Json& part : *parts) {
      // The sums of a mount are made here too, with what the channels below have.
      if (!part.is_object() || !Counts(part) || TextOf(part, "kind") == "mount") continue;
      const std::string name = TextOf(part, "name");
      Reading reading = ReadingOf(part);
      sum.Add(reading);
      TopRow row =
          RowOf(absl::StrCat(prefix, TextOf(part, "kind"), " ", name), std::move(reading), next);
      row.indent = 1;
      row.name = name;
      // Below the line of its directory a file needs only its own name.
      const std::string directory = absl::StrCat(TextOf(process, "name"), "/");
      if (command == "mount" && name.rfind(directory, 0) == 0) {
        row.name = name.substr(directory.size());
      }
      if (const Json* facts = Member(part, "facts"); facts != nullptr && facts->is_object()) {
        row.mode = TextOf(*facts, "dax");
      }
      rows->push_back(std::move(row));
    }
  }
  for (const char* name : kCounters) sum.counters.try_emplace(name, 0);
  (*rows)[head] = RowOf(prefix, std::move(sum), next);
  (*rows)[head].name = absl::StrCat(command, " ", TextOf(process, "name"));
}

std::vector<TopRow> TopModel::Update(const std::vector<Json>& processes, Instant now) {
  seconds_ = before_.empty() ? 0 : (now - read_at_).seconds();
  read_at_ = now;
  std::vector<TopRow> rows;
  Readings next;
  for (const Json& process : processes) {
    if (process.is_object()) AddProcess(process, &rows, &next);
  }
  before_ = std::move(next);
  return rows;
}

}  // namespace oxmem::apps
