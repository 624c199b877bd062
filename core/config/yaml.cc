// SPDX-License-Identifier: Apache-2.0
#include "config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <sstream>

#include "base/error.h"

namespace pluq {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 10, kMaxEntries = 1000, kMaxDepth = 16;

// Builds the tree from parser events, so that what is not allowed is refused before any tree of it
// exists.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::string file) : file_(std::move(file)) {}
  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add(node(mark, YamlNode::Kind::kNull), mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases are not accepted");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    // "?" is a plain scalar, "!" a quoted one; anything else was written by hand.
    if (tag != "?" && tag != "!" && !tag.empty()) refuse(mark, "tags are not accepted");
    YamlNode n = node(mark, YamlNode::Kind::kScalar);
    n.scalar = value;
    n.quoted = tag == "!";
    if (!n.quoted && (value.empty() || value == "~" || value == "null"))
      n.kind = YamlNode::Kind::kNull;
    add(std::move(n), mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(mark, tag, anchor, YamlNode::Kind::kList);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    YamlNode node;
    std::string key;
    bool has_key = false;
    std::set<std::string> keys;
  };

  std::string place(const YAML::Mark& mark) const {
    return fmt::format("{}:{}:{}", file_, mark.line + 1, mark.column + 1);
  }
  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view why) const {
    fail_usage("{}: {}", place(mark), why);
  }
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) refuse(mark, "anchors are not accepted");
  }
  YamlNode node(const YAML::Mark& mark, YamlNode::Kind kind) const {
    YamlNode n;
    n.kind = kind;
    n.where = place(mark);
    return n;
  }
  void start(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
             YamlNode::Kind kind) {
    refuse_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty()) refuse(mark, "tags are not accepted");
    if (open_.size() >= kMaxDepth)
      refuse(mark, fmt::format("nested deeper than {} levels", kMaxDepth));
    if (!open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap && !open_.back().has_key) {
      refuse(mark, "a key must be a plain text");
    }
    open_.emplace_back();
    open_.back().node = node(mark, kind);
    marks_.push_back(mark);
  }
  void end() {
    YamlNode done = std::move(open_.back().node);
    const YAML::Mark mark = marks_.back();
    open_.pop_back();
    marks_.pop_back();
    add(std::move(done), mark);
  }
  void add(YamlNode n, const YAML::Mark& mark) {
    if (open_.empty()) {
      root_ = std::move(n);
      return;
    }
    Open& o = open_.back();
    if (o.node.kind == YamlNode::Kind::kList) {
      o.node.list.push_back(std::move(n));
      if (o.node.list.size() > kMaxEntries)
        refuse(mark, fmt::format("more than {} entries", kMaxEntries));
    } else if (!o.has_key) {
      if (n.kind != YamlNode::Kind::kScalar) refuse(mark, "a key must be a plain text");
      if (!o.keys.insert(n.scalar).second)
        refuse(mark, fmt::format("key '{}' is there twice", printable(n.scalar)));
      if (o.keys.size() > kMaxEntries) refuse(mark, fmt::format("more than {} keys", kMaxEntries));
      o.key = n.scalar;
      o.has_key = true;
    } else {
      o.node.map.push_back({std::move(o.key), std::move(n)});
      o.has_key = false;
    }
  }

  std::string file_;
  YamlNode root_;
  std::vector<Open> open_;
  std::vector<YAML::Mark> marks_;
};

std::string describe(const YamlNode& n) {
  switch (n.kind) {
    case YamlNode::Kind::kNull:
      return "empty";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kScalar:
      break;
  }
  return "'" + printable(n.scalar, 60) + "'";
}

[[noreturn]] void wrong(const YamlNode& n, std::string_view what, std::string_view expected) {
  fail_usage("{}: '{}' is {}, expected {}", n.where, what, describe(n), expected);
}

template <class T>
std::optional<T> number(const std::string& text) {
  T value{};
  const char *begin = text.data(), *end = begin + text.size();
  const auto [p, ec] = std::from_chars(begin, end, value);
  if (ec != std::errc() || p != end) return std::nullopt;
  return value;
}

size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t next = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = row[j];
      row[j] = next;
    }
  }
  return row[b.size()];
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const auto& [name, value] : map) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string YamlNode::text(std::string_view what) const {
  if (kind != Kind::kScalar) wrong(*this, what, "a text");
  return scalar;
}

int64_t YamlNode::integer(std::string_view what, int64_t lo, int64_t hi) const {
  const auto value = kind == Kind::kScalar && !quoted ? number<int64_t>(scalar) : std::nullopt;
  if (!value || *value < lo || *value > hi)
    wrong(*this, what, fmt::format("a whole number from {} to {}", lo, hi));
  return *value;
}

double YamlNode::real(std::string_view what, double lo, double hi) const {
  const auto value = kind == Kind::kScalar && !quoted ? number<double>(scalar) : std::nullopt;
  if (!value || !(*value >= lo && *value <= hi))
    wrong(*this, what, fmt::format("a number from {} to {}", lo, hi));
  return *value;
}

bool YamlNode::boolean(std::string_view what) const {
  if (kind != Kind::kScalar || quoted || (scalar != "true" && scalar != "false"))
    wrong(*this, what, "true or false");
  return scalar == "true";
}

std::string YamlNode::choice(std::string_view what,
                             std::initializer_list<std::string_view> accepted) const {
  if (kind == Kind::kScalar &&
      std::find(accepted.begin(), accepted.end(), scalar) != accepted.end())
    return scalar;
  wrong(*this, what, fmt::format("one of {}", fmt::join(accepted, ", ")));
}

const std::vector<YamlNode>& YamlNode::items(std::string_view what) const {
  if (kind != Kind::kList) wrong(*this, what, "a list");
  return list;
}

const std::vector<YamlNode::Entry>& YamlNode::entries(std::string_view what) const {
  if (kind != Kind::kMap) wrong(*this, what, "a map");
  return map;
}

void YamlNode::check_keys(std::string_view what,
                          std::initializer_list<std::string_view> accepted) const {
  for (const auto& [key, value] : entries(what)) {
    if (std::find(accepted.begin(), accepted.end(), key) != accepted.end()) continue;
    std::string near;
    size_t best = 3;
    for (const std::string_view a : accepted) {
      if (distance(key, a) < best) {
        best = distance(key, a);
        near = fmt::format(" (did you mean '{}'?)", a);
      }
    }
    fail_usage("{}: unknown key '{}' in {}{}; accepted are {}", value.where, printable(key), what,
               near, fmt::join(accepted, ", "));
  }
}

boost::json::value YamlNode::to_json() const {
  switch (kind) {
    case Kind::kNull:
      return nullptr;
    case Kind::kList: {
      boost::json::array out;
      for (const YamlNode& n : list) out.push_back(n.to_json());
      return out;
    }
    case Kind::kMap: {
      boost::json::object out;
      for (const auto& [key, value] : map) out[key] = value.to_json();
      return out;
    }
    case Kind::kScalar:
      break;
  }
  if (!quoted) {
    if (scalar == "true" || scalar == "false") return scalar == "true";
    if (const auto i = number<int64_t>(scalar)) return *i;
    if (const auto d = number<double>(scalar); d && std::isfinite(*d)) return *d;
  }
  return boost::json::value(scalar);
}

YamlNode parse_yaml(const std::string& text, const std::string& file) {
  if (text.size() > kMaxBytes)
    fail_usage("{}: {} bytes, at most {} are accepted", file, text.size(), kMaxBytes);
  std::istringstream stream(text);
  Builder builder(file);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return {};
    YamlNode root = builder.take();
    Builder second(file);
    if (parser.HandleNextDocument(second)) fail_usage("{}: more than one YAML document", file);
    return root;
  } catch (const YAML::Exception& e) {
    fail_usage("{}:{}:{}: {}", file, e.mark.line + 1, e.mark.column + 1, e.msg);
  }
}

}  // namespace pluq
