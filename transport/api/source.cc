#include "transport/api/source.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

constexpr std::size_t kQuotedBytes = 200;  // of a wrong source in its message

bool IsControl(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

bool IsKeyCharacter(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; }

bool IsSchemeCharacter(char c) {
  return absl::ascii_isalnum(c) || c == '+' || c == '-' || c == '.';
}

std::string Quoted(std::string_view text) {
  std::string shown = absl::CHexEscape(std::string(text.substr(0, kQuotedBytes)));
  if (text.size() > kQuotedBytes) shown += "...";
  return absl::StrCat("\"", shown, "\"");
}

std::optional<int> HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

// Every character the grammar gives a meaning to somewhere is written %XX everywhere, so that the
// canonical text of a source stays right when it is put into the parentheses of another.
void AppendEncoded(std::string& out, std::string_view text, std::string_view also_encode) {
  for (const char c : text) {
    const bool special = c == '%' || c == '?' || c == '&' || c == ',' || c == '(' || c == ')' ||
                         c == ' ' || c == '#' || also_encode.find(c) != std::string_view::npos;
    if (special) {
      absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(c));
    } else {
      out.push_back(c);
    }
  }
}

// Recursive descent over one text; positions in messages count from 1.
class SourceParser {
 public:
  explicit SourceParser(std::string_view text) : text_(text) {}

  absl::StatusOr<Source> Parse() {
    if (text_.empty()) {
      return absl::InvalidArgumentError(
          "the source is empty; write for example mem:?size=1G or tloe://eth1/MAC?size=8G");
    }
    if (text_.size() > kMaxSourceBytes) {
      return Error(absl::StrCat("is longer than ", kMaxSourceBytes, " bytes"));
    }
    OXMEM_ASSIGN_OR_RETURN(Source source, ParseOne(1));
    if (!AtEnd()) return ErrorHere(absl::StrCat("unexpected ", Quoted(text_.substr(at_, 1))));
    return source;
  }

 private:
  bool AtEnd() const { return at_ >= text_.size(); }
  bool At(char c) const { return !AtEnd() && text_[at_] == c; }
  bool Take(char c) {
    if (!At(c)) return false;
    ++at_;
    return true;
  }

  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("source ", Quoted(text_), ": ", what));
  }
  absl::Status ErrorAt(std::size_t position, const std::string& what) const {
    return Error(absl::StrCat(what, " at character ", position + 1));
  }
  absl::Status ErrorHere(const std::string& what) const { return ErrorAt(at_, what); }

  absl::StatusOr<Source> ParseOne(int depth) {
    if (depth > kMaxSourceDepth) {
      return ErrorHere(absl::StrCat("more than ", kMaxSourceDepth, " levels of sources"));
    }
    Source source;
    OXMEM_RETURN_IF_ERROR(ParseScheme(depth, source));
    if (At('(')) {
      OXMEM_RETURN_IF_ERROR(ParseNested(depth, source));
    } else {
      OXMEM_RETURN_IF_ERROR(ParseBody(depth, source));
    }
    if (Take('?')) OXMEM_RETURN_IF_ERROR(ParseParameters(depth, source));
    if (!AtEnd() && !(depth > 1 && (At(',') || At(')')))) {
      return ErrorHere(absl::StrCat("unexpected ", Quoted(text_.substr(at_, 1))));
    }
    return source;
  }

  absl::Status ParseScheme(int depth, Source& source) {
    const std::size_t start = at_;
    while (!AtEnd() && IsSchemeCharacter(text_[at_])) ++at_;
    const std::string_view scheme = text_.substr(start, at_ - start);
    if (scheme.empty() || !absl::ascii_isalpha(scheme.front()) || !At(':')) {
      return ErrorAt(start, depth == 1
                                ? "no scheme (a source begins with one, like mem: or tloe://)"
                                : "no scheme (a comma that separates no sources is written %2C)");
    }
    source.scheme = absl::AsciiStrToLower(std::string(scheme));
    ++at_;
    return absl::OkStatus();
  }

  absl::Status ParseNested(int depth, Source& source) {
    const std::size_t open = at_;
    Take('(');
    do {
      if (source.nested.size() == kMaxNestedSources) {
        return ErrorHere(absl::StrCat("more than ", kMaxNestedSources, " sources side by side"));
      }
      OXMEM_ASSIGN_OR_RETURN(Source inner, ParseOne(depth + 1));
      source.nested.push_back(std::move(inner));
    } while (Take(','));
    if (!Take(')')) return ErrorAt(open, "\"(\" without its \")\"");
    return absl::OkStatus();
  }

  absl::Status ParseBody(int depth, Source& source) {
    if (text_.substr(at_, 2) == "//") {
      at_ += 2;
      source.has_authority = true;
      OXMEM_ASSIGN_OR_RETURN(source.authority, ParseText(depth, "/?"));
    }
    OXMEM_ASSIGN_OR_RETURN(source.path, ParseText(depth, "?"));
    return absl::OkStatus();
  }

  absl::Status ParseParameters(int depth, Source& source) {
    if (AtEnd() || (depth > 1 && (At(',') || At(')')))) return absl::OkStatus();  // "mem:?"
    do {
      const std::size_t start = at_;
      while (!AtEnd() && IsKeyCharacter(text_[at_])) ++at_;
      const std::string_view key = text_.substr(start, at_ - start);
      if (key.empty()) return ErrorAt(start, "an option name (key=value) is missing");
      if (!Take('=')) {
        return ErrorAt(start, absl::StrCat("option ", Quoted(key), " has no \"=value\""));
      }
      if (source.Find(key) != nullptr) {
        return ErrorAt(start, absl::StrCat("option ", Quoted(key), " is there twice"));
      }
      OXMEM_ASSIGN_OR_RETURN(std::string value, ParseText(depth, "&"));
      source.parameters.push_back({std::string(key), std::move(value)});
    } while (Take('&'));
    return absl::OkStatus();
  }

  // Decodes up to one of the stop characters, the end, or what ends a nested source.
  absl::StatusOr<std::string> ParseText(int depth, std::string_view stop) {
    std::string out;
    while (!AtEnd() && stop.find(text_[at_]) == std::string_view::npos) {
      const char c = text_[at_];
      if (depth > 1 && (c == ',' || c == ')')) break;
      if (c == '(' || c == ')') {
        return ErrorHere(absl::StrCat("unexpected \"", std::string(1, c), "\" (write it ",
                                      c == '(' ? "%28" : "%29", " if it belongs to a name)"));
      }
      if (IsControl(c)) return ErrorHere("a control character");
      if (c == ' ') return ErrorHere("a space (write it %20 if it belongs to a name)");
      if (c == '%') {
        OXMEM_ASSIGN_OR_RETURN(const char decoded, ParsePercent());
        out.push_back(decoded);
      } else {
        out.push_back(c);
        ++at_;
      }
    }
    return out;
  }

  absl::StatusOr<char> ParsePercent() {
    const auto high = at_ + 1 < text_.size() ? HexDigit(text_[at_ + 1]) : std::nullopt;
    const auto low = at_ + 2 < text_.size() ? HexDigit(text_[at_ + 2]) : std::nullopt;
    if (!high || !low) return ErrorHere("\"%\" without two hexadecimal digits (write %25 for it)");
    const char decoded = static_cast<char>(*high * 16 + *low);
    if (IsControl(decoded)) return ErrorHere("a control character");
    at_ += 3;
    return decoded;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

std::string_view Source::path_name() const {
  std::string_view name = path;
  if (!name.empty() && name.front() == '/') name.remove_prefix(1);
  return name;
}

const std::string* Source::Find(std::string_view key) const {
  for (const Parameter& parameter : parameters) {
    if (parameter.key == key) return &parameter.value;
  }
  return nullptr;
}

std::string Source::FormatWithoutParameters() const {
  std::string out = absl::StrCat(scheme, ":");
  if (!nested.empty()) {
    char separator = '(';
    for (const Source& inner : nested) {
      out.push_back(separator);
      out += inner.Format();
      separator = ',';
    }
    out.push_back(')');
    return out;
  }
  std::string_view rest = path;
  if (has_authority) {
    out += "//";
    AppendEncoded(out, authority, "/");
  } else if (rest.starts_with("//")) {
    // Two slashes as they are would be read back as the beginning of an authority.
    out += "%2F";
    rest.remove_prefix(1);
  }
  AppendEncoded(out, rest, "");
  return out;
}

std::string Source::Format() const {
  std::string out = FormatWithoutParameters();
  char separator = '?';
  for (const Parameter& parameter : parameters) {
    out.push_back(separator);
    absl::StrAppend(&out, parameter.key, "=");
    AppendEncoded(out, parameter.value, "");
    separator = '&';
  }
  return out;
}

absl::StatusOr<Source> ParseSource(std::string_view text) { return SourceParser(text).Parse(); }

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const auto error = [&](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " ", what));
  };
  HostPort result;
  std::string_view port;
  if (text.starts_with("[")) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return error("has \"[\" without \"]\"");
    result.host = std::string(text.substr(1, close - 1));
    const std::string_view rest = text.substr(close + 1);
    if (!rest.starts_with(":")) return error("has no port (write [ADDRESS]:PORT)");
    port = rest.substr(1);
  } else {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return error("has no port (write HOST:PORT)");
    if (text.find(':', colon + 1) != std::string_view::npos) {
      return error("has several colons (write an IPv6 address as [ADDRESS]:PORT)");
    }
    result.host = std::string(text.substr(0, colon));
    port = text.substr(colon + 1);
  }
  if (result.host.empty()) return error("has no host (write HOST:PORT)");
  const auto [end, code] = std::from_chars(port.data(), port.data() + port.size(), result.port);
  if (code != std::errc() || end != port.data() + port.size() || result.port == 0) {
    return error("has no port between 1 and 65535 after its last colon");
  }
  return result;
}

}  // namespace oxmem::transport
