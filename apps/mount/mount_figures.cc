#include "apps/mount/mount_figures.h"

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/api/stats.h"
#include "transport/base/check.h"
#include "transport/base/histogram.h"

namespace oxmem::apps {
namespace {

// Adds figures that were made in the same way, one by one.
void AddUp(const std::vector<Figure>& more, std::vector<Figure>* sums) {
  if (sums->empty()) {
    *sums = more;
    return;
  }
  OXMEM_CHECK(sums->size() == more.size());
  for (std::size_t i = 0; i < more.size(); ++i) (*sums)[i].value += more[i].value;
}

std::vector<Figure> VolumeFigures(const fs::StatisticsVolume& volume) {
  Part part;
  fs::ForEachVolumeCounter(volume.stats(), part.Adder());
  return std::move(part.figures);
}

std::vector<Figure> ChannelFigures(const fs::StatisticsVolume& volume) {
  std::vector<Figure> figures;
  transport::ForEachCounter(
      volume.channel_stats(),
      [&figures](const char* name, bool is_level, const char* description, const Counter& counter) {
        figures.push_back({absl::StrCat("channel_", name), is_level,
                           absl::StrCat("channel: ", description), counter.value()});
      });
  return figures;
}

// Latencies of reads and of writes, merged.
struct Latencies {
  Histogram reads;
  Histogram writes;

  void Merge(const Latencies& other) {
    reads.Merge(other.reads);
    writes.Merge(other.writes);
  }
  void AddTo(Part* part) const {
    part->AddLatency("read_latency", "of reads, from the start of the operation to its end", reads);
    part->AddLatency("write_latency", "of writes, from the start of the operation to its end",
                     writes);
  }
};

Part FileFigures(const fs::FuseMount& mount, const std::string& place, std::size_t index,
                 const FileVolumes& volumes, std::vector<Figure>* mount_sums,
                 Latencies* mount_latencies) {
  const fs::FileTable::File& file = mount.files().file(index);
  Part part;
  part.kind = kFileKind;
  part.name = absl::StrCat(place, "/", file.name);
  part.facts = {{"source", file.source},
                {"provider", file.provider},
                {"size_bytes", absl::StrCat(file.size_bytes)},
                {"dax", fs::FileModeName(file.mode)}};
  if (!file.mode_reason.empty()) part.facts.emplace_back("dax_reason", file.mode_reason);
  std::vector<Figure> channel;
  Latencies latencies;
  for (const fs::StatisticsVolume* volume : volumes) {
    AddUp(VolumeFigures(*volume), &part.figures);
    AddUp(ChannelFigures(*volume), &channel);
    latencies.reads.Merge(volume->stats().read_latency);
    latencies.writes.Merge(volume->stats().write_latency);
  }
  AddUp(part.figures, mount_sums);
  mount_latencies->Merge(latencies);
  part.figures.insert(part.figures.end(), channel.begin(), channel.end());
  part.figures.push_back({"memory_losses", false,
                          "times open files were cut off because the node's memory was lost",
                          mount.files().losses(index)});
  latencies.AddTo(&part);
  return part;
}

std::vector<Figure> ReactorFigures(const fs::FuseMount& mount) {
  std::vector<Figure> sums;
  for (std::size_t i = 0; i < mount.reactor_count(); ++i) {
    Part part;
    fs::ForEachReactorCounter(mount.reactor_stats(i), part.Adder());
    AddUp(part.figures, &sums);
  }
  return sums;
}

}  // namespace

std::vector<Part> MountFigures(const fs::FuseMount& mount,
                               const std::vector<FileVolumes>& volumes) {
  std::vector<Part> parts(1);
  const std::string place = mount.place();
  Latencies latencies;
  std::vector<Figure> sums;
  for (std::size_t i = 0; i < mount.files().size(); ++i) {
    parts.push_back(FileFigures(mount, place, i, volumes[i], &sums, &latencies));
  }
  Part& whole = parts.front();
  whole.kind = kMountKind;
  whole.name = place;
  whole.facts = {{"files", absl::StrCat(mount.files().size())},
                 {"threads", absl::StrCat(mount.reactor_count())},
                 {"read_only", mount.options().read_only ? "yes" : "no"}};
  whole.figures = std::move(sums);
  for (Figure& figure : ReactorFigures(mount)) whole.figures.push_back(std::move(figure));
  latencies.AddTo(&whole);
  return parts;
}

}  // namespace oxmem::apps
