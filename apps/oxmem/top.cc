// oxmem top: readings of all processes' counters, again and again, as rates.
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/common/cli.h"
#include "apps/common/control_client.h"
#include "apps/common/event_loop.h"
#include "apps/common/figures_text.h"
#include "apps/oxmem/command.h"
#include "apps/oxmem/number_option.h"
#include "apps/top/terminal.h"
#include "apps/top/top_model.h"
#include "apps/top/top_text.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {
namespace {

constexpr char kProgram[] = "oxmem top";
// A process that does not answer must not stop the picture for long.
constexpr Duration kPatience = Duration::Milliseconds(300);
constexpr double kShortestInterval = 0.1;
constexpr double kLongestInterval = 3600;

struct TopOptions {
  std::string which;
  double interval_seconds = 1;
  uint64_t count = 0;  // reports; 0: no end
  bool batch = false;
  bool once = false;
  bool json = false;
};

// One look at everything that runs.
struct TopReport {
  std::size_t processes = 0;
  std::vector<TopRow> rows;
  std::vector<std::string> notes;  // what could not be asked
  bool all_answered = true;
};

// A process that does not answer runs all the same.
bool NothingRuns(const TopReport& report) { return report.rows.empty() && report.all_answered; }

std::string TextOf(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return "";
  return found->is_string() ? found->get<std::string>() : JsonText(*found);
}

// \040 and the like, as /proc writes blanks.
std::string Unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                      (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

// Directories where something of ours is mounted, whoever serves it; none if this user looks for
// processes in a place of its own, where those of the others are not.
std::vector<std::string> MountedDirectories() {
  std::vector<std::string> directories;
  if (const char* own = std::getenv("OXMEM_RUNTIME_DIR"); own != nullptr && *own != '\0') {
    return directories;
  }
  std::ifstream table("/proc/self/mounts");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string source;
    std::string directory;
    std::string type;
    if (words >> source >> directory >> type && type == "fuse.oxmem") {
      directories.push_back(Utf8Text(Unescaped(directory)));  // as it is in answers
    }
  }
  return directories;
}

class Top {
 public:
  explicit Top(const TopOptions& options) : options_(options) {}

  int Run();

 private:
  TopReport Read();
  int RunBatch();
  int RunOnScreen();
  void PrintReport(const TopReport& report, bool first) const;

  absl::Status WatchSignals();
  void OnSignal();
  void OnKeys();
  void OnKey(char key);
  void StopProcess();
  void SetInterval(double seconds);
  void Refresh();
  void Draw();

  TopOptions options_;
  TopModel model_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<TerminalScreen> screen_;
  UniqueFd signals_;
  EventLoop::TimerId timer_{};
  TopReport report_;
  std::string taken_at_;
  std::size_t scrolled_ = 0;
  bool paused_ = false;
  uint64_t shown_ = 0;
};

TopReport Top::Read() {
  TopReport report;
  std::vector<Json> processes;
  std::set<std::string> served;
  for (const ProcessAnswer& one : AskAllProcesses("stats", kPatience)) {
    if (!one.answer.ok()) {
      report.notes.push_back(Printable(std::string(one.answer.status().message())));
      report.all_answered = false;
      continue;
    }
    if (TextOf(*one.answer, "command") == "mount") served.insert(TextOf(*one.answer, "name"));
    if (options_.which.empty() || IsCalled(*one.answer, options_.which)) {
      processes.push_back(*one.answer);
    }
  }
  for (const std::string& directory : MountedDirectories()) {
    if (report.all_answered && served.count(directory) == 0) {
      report.notes.push_back(Printable(
          absl::StrCat(directory, ": mounted, but no process that can be asked serves it")));
    }
  }
  report.processes = processes.size();
  report.rows = model_.Update(processes, Now());
  return report;
}

void Top::PrintReport(const TopReport& report, bool first) const {
  if (options_.json) {
    Json json;
    json["timestamp"] = static_cast<int64_t>(std::time(nullptr));
    json["rows"] = Json::array();
    for (const TopRow& row : report.rows) json["rows"].push_back(TopJson(row));
    json["notes"] = report.notes;
    absl::PrintF("%s\n", JsonText(json));
  } else {
    if (!first) absl::PrintF("\n");
    absl::PrintF("%s\n", TopHeading(kTopColumns));
    for (const TopRow& row : report.rows) absl::PrintF("%s\n", TopLine(row, kTopColumns));
    for (const std::string& note : report.notes) absl::PrintF("%s\n", note);
    if (NothingRuns(report)) absl::PrintF("no oxmem process is running\n");
  }
  std::fflush(stdout);
}

int Top::RunBatch() {
  const auto pause = [this] {
    const auto ns = static_cast<int64_t>(options_.interval_seconds * 1e9);
    timespec left = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
  };
  Read();  // the first report needs one before it
  for (uint64_t i = 0; options_.count == 0 || i < options_.count; ++i) {
    pause();
    const TopReport report = Read();
    PrintReport(report, i == 0);
    if (std::ferror(stdout) != 0) break;
    if (!options_.which.empty() && report.processes == 0) {
      return Fail(kProgram, absl::NotFoundError(absl::StrCat(
                                report.all_answered ? "no running process" : "none that answers",
                                " has the number or the name \"", options_.which,
                                "\" (oxmem stats lists all)")));
    }
  }
  return EndOutput(kProgram, kExitDone);
}

void Top::Draw() {
  int columns = kTopColumns;
  int lines = 24;
  screen_->Size(&columns, &lines);
  std::vector<std::string> body;
  for (const TopRow& row : report_.rows) body.push_back(TopLine(row, columns));
  if (NothingRuns(report_)) body.emplace_back("no oxmem process is running");
  for (const std::string& note : report_.notes) body.push_back(note);
  const auto room = static_cast<std::size_t>(std::max(lines - 2, 1));
  scrolled_ = std::min(scrolled_, body.size() > room ? body.size() - room : 0);
  std::string title = absl::StrFormat("oxmem top  %s  %d process%s, every %g s%s", taken_at_,
                                      report_.processes, report_.processes == 1 ? "" : "es",
                                      options_.interval_seconds, paused_ ? ", paused" : "");
  const std::string keys = "q quit  p pause  + - interval";
  if (const int free = columns - static_cast<int>(title.size() + keys.size()); free > 0) {
    title = absl::StrCat(title, std::string(static_cast<std::size_t>(free), ' '), keys);
  }
  const auto cut = [columns](const std::string& text) {
    return text.substr(0, static_cast<std::size_t>(columns));
  };
  std::string text = cut(title);
  if (lines > 1) absl::StrAppend(&text, "\n", cut(TopHeading(columns)));
  for (std::size_t i = 0; i < room && lines > 2 && scrolled_ + i < body.size(); ++i) {
    absl::StrAppend(&text, "\n", cut(body[scrolled_ + i]));
  }
  screen_->Show(text);
}

void Top::Refresh() {
  if (!paused_) {
    report_ = Read();
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    taken_at_ = absl::StrFormat("%02d:%02d:%02d", local.tm_hour, local.tm_min, local.tm_sec);
    // The first has no rates.
    if (options_.count != 0 && shown_++ == options_.count) loop_->Stop();
  }
  Draw();
}

void Top::SetInterval(double seconds) {
  options_.interval_seconds = std::clamp(seconds, kShortestInterval, kLongestInterval);
  loop_->Cancel(timer_);
  timer_ =
      loop_->Every(Duration::Nanoseconds(static_cast<int64_t>(options_.interval_seconds * 1e9)),
                   [this] { Refresh(); });
}

// As the terminal would with Ctrl-Z, with the terminal as it was before.
void Top::StopProcess() {
  screen_->Suspend();
  raise(SIGSTOP);
  screen_->Resume();
  Draw();
}

void Top::OnKey(char key) {
  switch (key) {
    case 'q':
    case 'Q':
    case 0x03:  // Ctrl-C
    case 0x04:  // Ctrl-D
      loop_->Stop();
      return;
    case 0x1a:  // Ctrl-Z
      StopProcess();
      return;
    case 'p':
    case ' ':
      paused_ = !paused_;
      break;
    case '+':
      SetInterval(options_.interval_seconds * 2);
      break;
    case '-':
      SetInterval(options_.interval_seconds / 2);
      break;
    case 'j':
      ++scrolled_;
      break;
    case 'k':
      scrolled_ -= scrolled_ == 0 ? 0 : 1;
      break;
    default:
      return;
  }
  Draw();
}

void Top::OnKeys() {
  std::array<char, 64> keys;
  const ssize_t count = read(STDIN_FILENO, keys.data(), keys.size());
  if (count <= 0) {  // the terminal is gone
    if (count == 0 || (errno != EINTR && errno != EAGAIN)) loop_->Stop();
    return;
  }
  std::string typed(keys.data(), static_cast<std::size_t>(count));
  // The arrows, as terminals send them.
  for (const auto& [sequence, key] : {std::pair<const char*, char>{"\x1b[A", 'k'},
                                      {"\x1b[B", 'j'},
                                      {"\x1bOA", 'k'},
                                      {"\x1bOB", 'j'}}) {
    for (std::size_t at = typed.find(sequence); at != std::string::npos;
         at = typed.find(sequence)) {
      typed.replace(at, 3, 1, key);
    }
  }
  if (typed == "\x1b") typed = "q";
  if (typed[0] == '\x1b') return;  // some other key
  for (const char key : typed) OnKey(key);
}

void Top::OnSignal() {
  signalfd_siginfo info;
  if (read(signals_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return;
  switch (info.ssi_signo) {
    case SIGWINCH:
      Draw();
      return;
    case SIGTSTP:
      StopProcess();
      return;
    default:
      loop_->Stop();
  }
}

absl::Status Top::WatchSignals() {
  sigset_t wanted;
  sigemptyset(&wanted);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGWINCH, SIGTSTP}) {
    sigaddset(&wanted, number);
  }
  if (sigprocmask(SIG_BLOCK, &wanted, nullptr) != 0) return ErrnoStatus(errno, "sigprocmask");
  signals_.Reset(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return ErrnoStatus(errno, "signalfd");
  return loop_->Watch(signals_.get(), EPOLLIN, [this](uint32_t) { OnSignal(); });
}

int Top::RunOnScreen() {
  absl::Status status;
  auto loop = EventLoop::Create();
  status = loop.status();
  if (status.ok()) {
    loop_ = *std::move(loop);
    status = WatchSignals();
  }
  if (status.ok()) {
    auto screen = TerminalScreen::Open();
    status = screen.status();
    if (screen.ok()) screen_ = *std::move(screen);
  }
  if (status.ok()) {
    status = loop_->Watch(STDIN_FILENO, EPOLLIN, [this](uint32_t) { OnKeys(); });
  }
  if (status.ok()) {
    Refresh();
    SetInterval(options_.interval_seconds);
    status = loop_->Run();
  }
  screen_.reset();
  return status.ok() ? kExitDone : Fail(kProgram, status);
}

int Top::Run() {
  if (options_.once) options_.count = 1;
  const bool on_screen = !options_.batch && !options_.once && !options_.json &&
                         isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  return on_screen ? RunOnScreen() : RunBatch();
}

}  // namespace

void AddTopCommand(CLI::App& app, Run& run) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* command = app.add_subcommand(
      "top", "Watch what the mounts, nodes and benchmarks on this host do: rates and latencies");
  command->add_option("PROCESS", options->which, "Only this one: its process id or its name");
  command
      ->add_option("-i,--interval", options->interval_seconds,
                   "Seconds between two readings (default 1)")
      ->type_name("SEC")
      ->check(DecimalNumber(kShortestInterval, kLongestInterval));
  CLI::Option* count =
      command->add_option("-c,--count", options->count, "End after N reports (default: never)")
          ->type_name("N")
          ->check(WholeNumber(1, uint64_t{1} << 40));
  command->add_flag("-b,--batch", options->batch,
                    "Plain text, one report after the other; so it is without a terminal, too");
  command->add_flag("--once", options->once, "One report as plain text")->excludes(count);
  command->add_flag("--json", options->json, "A line of JSON for each report");
  command->callback([options, &run] { run = [options] { return Top(*options).Run(); }; });
}

}  // namespace oxmem::apps
