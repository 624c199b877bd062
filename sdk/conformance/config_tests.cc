// SPDX-License-Identifier: Apache-2.0
// Groups "metadata" and "config": what a format says of itself, and what it makes of configurations
// nobody meant.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <set>

#include "base/error.h"
#include "base/json.h"

#include "conformance/cases.h"

namespace pluq::conformance {
namespace {

namespace json = boost::json;

std::string metadata(const Subject& s) {
  const Ready plugin = ready(s);
  std::set<std::string> seen;
  for (const auto& f : plugin.formats) {
    expect(seen.insert(f->id()).second, "registers format '{}' twice", f->id());
    expect(!f->summary().empty() && f->summary().find('\n') == std::string::npos,
           "format '{}': the summary is not one line", f->id());
    std::set<std::string> keys;
    for (const OptionInfo& o : f->options()) {
      expect(!o.key.empty() && keys.insert(o.key).second,
             "format '{}': option '{}' is empty or twice", f->id(), o.key);
      expect(o.type >= PLUQ_OPTION_INT && o.type <= PLUQ_OPTION_STRING,
             "option '{}': type {} is not known", o.key, o.type);
      expect(!o.help.empty(), "option '{}' has no help text", o.key);
      if (!o.default_value.empty()) {
        const std::string setting = o.key + "=" + o.default_value;
        f->parse_options(std::span(&setting, 1), "its own default");
      }
    }
    if (f->can_quantize())
      expect(!f->algorithms().empty(), "format '{}' has a quantizer without algorithms", f->id());
  }
  for (size_t i = 0; i < plugin.raw.size(); ++i) {
    const FormatHandle again(plugin.raw[i], s.path);
    expect(again.id() == plugin.formats[i]->id() && again.summary() == plugin.formats[i]->summary(),
           "describe answers differently each time");
  }
  return fmt::format("{} formats", seen.size());
}

std::string extensions(const Subject& s) {
  const Ready plugin = ready(s);
  for (const pluq_format& f : plugin.raw) {
    if (!PLUQ_HAS(f.api, get_extension) || f.api->get_extension == nullptr) continue;
    for (const char* id : {"", "nobody.has.this/1", PLUQ_QUANTIZER "x", "pluq.quantizer/",
                           "pluq.quantizer/99", "PLUQ.QUANTIZER/1"}) {
      step("get_extension(\"{}\")", id);
      expect(f.api->get_extension(f.self, id) == nullptr,
             "answers to the extension '{}', which nobody has", id);
    }
  }
  return "unknown ids are answered with NULL";
}

pluq_status* create(const pluq_format& f, const json::value& quantization,
                    const json::value& options, pluq_config* out) {
  pluq_config_request r{};
  r.struct_size = sizeof r;
  r.container = str_of("safetensors");
  r.quantization = quantization.is_null() ? nullptr : json_cursor(&quantization);
  r.options = options.is_null() ? nullptr : json_cursor(&options);
  return f.api->create_config(f.self, &r, out);
}

// Either a config that can be destroyed, or an error with words; nothing in between.
bool tolerates(const pluq_format& f, const json::value& quantization, const std::string& what) {
  step("create_config with {}", what);
  pluq_config config{};
  if (pluq_status* status = create(f, quantization, nullptr, &config)) {
    const std::string text = take_text(status);
    expect(!text.empty(), "create_config with {}: refused without a word", what);
    expect(config.api == nullptr, "create_config with {}: an error, but the output was touched",
           what);
    return false;
  }
  expect(config.api != nullptr, "create_config with {}: succeeds and gives no table", what);
  config.api->destroy(config.self);
  return true;
}

std::vector<json::value> valid(const Ready& plugin, ThreadPool& pool, size_t i, uint64_t seed) {
  std::vector<json::value> out;
  for (const Case& c : make_cases(plugin, i, pool, 64, 256, seed, true))
    out.push_back(c.quantization);
  return out;
}

std::string valid_configs(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int n = 0;
  for (size_t i = 0; i < plugin.raw.size(); ++i) {
    for (const json::value& q : valid(plugin, pool, i, s.seed)) {
      pluq_config config{};
      ok(create(plugin.raw[i], q, nullptr, &config),
         "create_config of its own " + json::serialize(q));
      config.api->destroy(config.self);
      ++n;
    }
  }
  return fmt::format("{} configurations", n);
}

json::value deep(int levels, bool object) {
  json::value v = 1;
  for (int i = 0; i < levels; ++i)
    v = object ? json::value(json::object{{"bits", std::move(v)}})
               : json::value(json::array{std::move(v)});
  return v;
}

std::string damaged_configs(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int refused = 0, taken = 0;
  const json::value wrong[] = {nullptr,
                               true,
                               -1,
                               int64_t{1} << 40,
                               1e308,
                               "",
                               "x",
                               json::array{},
                               json::array{1, "a", nullptr},
                               json::object{},
                               deep(30, true),
                               deep(30, false)};
  for (size_t i = 0; i < plugin.raw.size(); ++i) {
    const pluq_format& f = plugin.raw[i];
    const auto look = [&](const json::value& q, const std::string& what) {
      ++(tolerates(f, q, what) ? taken : refused);
    };
    for (const json::value& w : wrong) look(w, json::serialize(w));
    look(nullptr, "nothing");
    for (const json::value& q : valid(plugin, pool, i, s.seed)) {
      if (!q.is_object()) continue;
      for (const auto& [key, value] : q.get_object()) {
        json::object without = q.get_object();
        without.erase(key);
        look(without, fmt::format("no '{}'", std::string_view(key)));
        for (const json::value& w : wrong) {
          json::object changed = q.get_object();
          changed[key] = w;
          look(changed,
               fmt::format("'{}' = {}", std::string_view(key), json::serialize(w).substr(0, 60)));
        }
        if (!value.is_object()) continue;
        for (const auto& [inner, unused] : value.get_object()) {
          for (const json::value& w : wrong) {
            json::object changed = q.get_object();
            changed[key].get_object()[inner] = w;
            look(changed, fmt::format("'{}.{}' = {}", std::string_view(key),
                                      std::string_view(inner), json::serialize(w).substr(0, 60)));
          }
        }
      }
    }
  }
  return fmt::format("{} refused with a sentence, {} taken", refused, taken);
}

std::string random_configs(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  Random random(s.seed);
  int n = 0;
  for (size_t i = 0; i < plugin.raw.size(); ++i) {
    for (const json::value& q : valid(plugin, pool, i, s.seed)) {
      const std::string text = json::serialize(q);
      for (int round = 0; round < 200; ++round) {
        std::string bad = text;
        for (uint64_t c = random.below(4) + 1; c > 0 && !bad.empty(); --c)
          bad[random.below(bad.size())] = static_cast<char>(random.bits());
        json::error_code ec;
        const json::value v = json::parse(bad, ec);
        if (!ec) tolerates(plugin.raw[i], v, printable(bad, 300)), ++n;
      }
    }
    std::string noise(size_t{1} << 20, ' ');
    for (char& c : noise) c = static_cast<char>(random.bits());
    tolerates(plugin.raw[i], json::object{{"quant_method", noise}},
              "a quant_method of 1 MB of random bytes");
    tolerates(plugin.raw[i], json::object{{noise, 1}}, "a key of 1 MB of random bytes");
  }
  return fmt::format("{} changed configurations, seed {}", n, s.seed);
}

std::string probes(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  for (size_t i = 0; i < plugin.raw.size(); ++i) {
    const FormatHandle& f = *plugin.formats[i];
    for (const Case& c : make_cases(plugin, i, pool, 64, 256, s.seed, false)) {
      step("probe of its own checkpoint");
      const FormatHandle::Probe own = f.probe(c.container(), c.quantization, c.tensors);
      expect(own.score > 0 && own.score <= 1000, "{}: probe of its own checkpoint answers {} ({})",
             c.label, own.score, own.reason);
    }
    for (const char* container : {"", "gguf", "something new"}) {
      step("probe of a '{}'", container);
      const FormatHandle::Probe p =
          f.probe(container, json::object{{"quant_method", "nobody's"}}, {});
      expect(p.score >= 0 && p.score <= 1000, "probe answers {}, the scale is 0 to 1000", p.score);
      if (p.score == 0)
        expect(!p.reason.empty(), "probe declines a '{}' without a reason", container);
    }
  }
  return "scores and reasons are well-formed";
}

}  // namespace

std::vector<Test> config_tests() {
  return {{"metadata", "describe", metadata},
          {"metadata", "extensions", extensions},
          {"config", "probe", probes},
          {"config", "valid", valid_configs},
          {"config", "damaged", damaged_configs},
          {"config", "random", random_configs}};
}

}  // namespace pluq::conformance
