// SPDX-License-Identifier: Apache-2.0
#include "conformance/cases.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "device/exec.h"
#include "pluq/ext/samples.h"
#include "pluq/float8.hpp"

namespace pluq::conformance {
namespace {

namespace json = boost::json;

void add_tensor(Case* to, std::string_view suffix, pluq_dtype dtype,
                std::span<const int64_t> shape) {
  to->names.emplace_back(suffix);
  to->data.emplace_back(tensor_bytes(dtype, shape, suffix),
                        dtype.block_bytes > 8 ? 1 : dtype.block_bytes);
  pluq_tensor t{};
  t.struct_size = sizeof t;
  t.rank = static_cast<uint32_t>(shape.size());
  t.name = str_of(to->names.back());
  t.dtype = dtype;
  t.device_kind = PLUQ_DEVICE_CPU;
  std::copy(shape.begin(), shape.end(), t.shape);
  t.data = to->data.back().data();
  t.data_bytes = to->data.back().size();
  to->tensors.push_back(t);
}

void random_row(uint64_t seed, int64_t row, int64_t k, float* out) {
  Random random(seed * 1000003 + static_cast<uint64_t>(row));
  for (int64_t i = 0; i < k; ++i)
    out[i] = static_cast<float>((random.real(-1, 1) + random.real(-1, 1)) * 0.05);
}

// The layer that the format's quantizer makes of random rows.
Case quantized(const FormatHandle& format, ThreadPool& pool, int64_t n, int64_t k,
               const json::value& options, uint64_t seed) {
  const QuantizeTarget target{"layer", "linear", k, n};
  const pluq_dtype bf16 = dtype_by_id(PLUQ_DTYPE_BF16);
  const std::string algorithm = format.algorithms().at(0);
  const auto job = format.begin_quantize(algorithm, options, bf16, {&target, 1});
  Case out;
  out.n = n;
  out.k = k;
  const std::vector<WeightSpecInfo> specs = job->output_specs(0);
  for (const WeightSpecInfo& s : specs) add_tensor(&out, s.suffix, s.dtype, s.shape);
  QuantizeJob::Callbacks callbacks;
  callbacks.rows = [&](size_t, int64_t begin, int64_t end, float* rows, int64_t ld) {
    for (int64_t r = begin; r < end; ++r) random_row(seed, r, k, rows + (r - begin) * ld);
  };
  callbacks.emit = [&](size_t, std::string_view suffix, int64_t begin, int64_t end,
                       std::span<const std::byte> bytes) {
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].suffix != suffix) continue;
      const int64_t rows = specs[i].shape.empty() ? 1 : specs[i].shape[0];
      const size_t row_bytes = out.data[i].size() / static_cast<size_t>(std::max<int64_t>(rows, 1));
      if (begin < 0 || end < begin || end > rows ||
          bytes.size() != row_bytes * static_cast<size_t>(end - begin)) {
        fail_plugin("emit of '{}' rows {} to {} with {} bytes; a row has {}", suffix, begin, end,
                    bytes.size(), row_bytes);
      }
      std::memcpy(out.data[i].data() + row_bytes * static_cast<size_t>(begin), bytes.data(),
                  bytes.size());
      return;
    }
    fail_plugin("emit of '{}', which output_specs does not name", suffix);
  };
  out.original.resize(static_cast<size_t>(n * k));
  for (int64_t r = 0; r < n; ++r) random_row(seed, r, k, out.original.data() + r * k);
  const HostExec exec(pool, -1, {}, &host_table());
  job->solve(exec.get(), callbacks);
  out.quantization = format.quantization_config(algorithm, options, bf16, {&target, 1}, {});
  return out;
}

// Fills a tensor as its spec says.
void fill(void* owner, const pluq_weight_spec& spec, uint64_t seed, int64_t n, int64_t k,
          Guarded& data) {
  Random random(seed);
  const pluq_sample& s = spec.sample;
  auto* bytes = data.as<uint8_t>();
  const size_t unit = std::max<uint32_t>(1, spec.dtype.block_bytes);
  const size_t count = data.size() / unit;
  const auto put = [&](size_t i, int64_t v) {
    std::memcpy(bytes + i * unit, &v, std::min<size_t>(unit, 8));
  };
  switch (s.kind) {
    case PLUQ_SAMPLE_BITS:
      for (size_t i = 0; i < data.size(); ++i) bytes[i] = static_cast<uint8_t>(random.bits());
      break;
    case PLUQ_SAMPLE_REAL:
      for (size_t i = 0; i < count; ++i) {
        const auto v = static_cast<float>(random.real(s.lo, s.hi));
        if (spec.dtype.id == PLUQ_DTYPE_F8_E4M3)
          bytes[i] = float8::to_e4m3(v);
        else if (is_plain_float(spec.dtype.id))
          from_f32(spec.dtype.id, {&v, 1}, data.data() + i * unit);
        else
          put(i, std::llround(v));
      }
      break;
    case PLUQ_SAMPLE_INDEX:
      for (size_t i = 0; i < count; ++i)
        put(i,
            static_cast<int64_t>(i) / std::max<int64_t>(s.per, 1) % std::max<int64_t>(s.below, 1));
      break;
    case PLUQ_SAMPLE_SHAPE:
      for (size_t i = 0; i < count; ++i) put(i, i == 0 ? n : k);
      break;
    case PLUQ_SAMPLE_BYTES:
      expect(s.fill != nullptr,
             "tensor '{}' is to be filled by the plugin, but has no function for it",
             text_of(spec.suffix));
      s.fill(owner, spec.suffix, seed, data.data(), data.size());
      break;
    default:
      break;  // zeros
  }
}

// The default options, then each option at each of its choices or at the ends of a short range.
std::vector<json::value> option_sets(const FormatHandle& format, bool variants) {
  std::vector<json::value> out{nullptr};
  for (const OptionInfo& o : format.options()) {
    if (!variants) break;
    std::vector<std::string> values;
    if (o.type == PLUQ_OPTION_BOOL) values = {"true", "false"};
    if (o.type == PLUQ_OPTION_INT && o.min <= o.max && o.max - o.min <= 8) {
      for (auto v = static_cast<int64_t>(o.min); v <= static_cast<int64_t>(o.max); ++v)
        values.push_back(std::to_string(v));
    }
    for (std::string_view rest = o.choices; !rest.empty();) {
      const size_t end = std::min(rest.find('|'), rest.size());
      values.emplace_back(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    for (const std::string& v : values) {
      if (v == o.default_value) continue;
      const std::string setting = o.key + "=" + v;
      out.push_back(format.parse_options(std::span(&setting, 1), "an option"));
    }
  }
  return out;
}

}  // namespace

std::vector<Case> make_samples(const pluq_format& raw, int64_t n, int64_t k, uint64_t seed) {
  std::vector<Case> out;
  const auto* api =
      PLUQ_HAS(raw.api, get_extension) && raw.api->get_extension != nullptr
          ? static_cast<const pluq_samples*>(raw.api->get_extension(raw.self, PLUQ_SAMPLES))
          : nullptr;
  if (api == nullptr) return out;
  expect(PLUQ_HAS(api, get) && api->count != nullptr && api->get != nullptr,
         "its table of {} ({} bytes) is too short or has an empty slot", PLUQ_SAMPLES,
         api->struct_size);
  const size_t count = api->count(raw.self, n, k);
  for (size_t i = 0; i < count && i < 100; ++i) {
    std::string text;
    char name[128] = {};
    pluq_text title{name, sizeof name, 0};
    pluq_text_sink sink{sizeof sink, 0, &text, [](void* user, const char* data, size_t size) {
                          static_cast<std::string*>(user)->append(data, size);
                        }};
    std::vector<pluq_weight_spec> specs(32);
    for (auto& s : specs) s.struct_size = sizeof s;
    size_t filled_count = specs.size();
    ok(api->get(raw.self, i, n, k, &title, &sink, specs.data(), sizeof(pluq_weight_spec),
                &filled_count),
       "samples.get");
    expect(filled_count <= specs.size(), "a sample has {} tensors, at most 32", filled_count);
    Case c;
    c.n = n;
    c.k = k;
    c.label = std::string(name, std::min(title.size, sizeof name));
    if (!text.empty()) c.quantization = parse_json(text, "the quantization of a sample");
    for (size_t t = 0; t < filled_count; ++t) {
      add_tensor(&c, text_of(specs[t].suffix), specs[t].dtype, {specs[t].shape, specs[t].rank});
      fill(raw.self, specs[t], seed + t, n, k, c.data.back());
    }
    out.push_back(std::move(c));
  }
  return out;
}

std::vector<Case> make_cases(const Ready& plugin, size_t index, ThreadPool& pool, int64_t n,
                             int64_t k, uint64_t seed, bool variants) {
  const FormatHandle& format = *plugin.formats[index];
  std::vector<Case> out;
  if (format.can_quantize()) {
    for (const json::value& options : option_sets(format, variants)) {
      const std::string label = options.is_null() ? "default" : json::serialize(options);
      step("quantizing a layer [{}, {}] with {} {}", n, k, format.id(), label);
      try {
        out.push_back(quantized(format, pool, n, k, options, seed));
        out.back().label = label;
      } catch (const Error& e) {
        if (e.kind() == ErrorKind::kPlugin) fail_test("{} {}: {}", format.id(), label, e.what());
      }
    }
  }
  for (Case& c : make_samples(plugin.raw[index], n, k, seed)) out.push_back(std::move(c));
  for (Case& c : out) {
    c.format = &format;
    c.raw = plugin.raw[index];
    c.label = fmt::format("{} {} [{}, {}]", format.id(), c.label, n, k);
    for (const Guarded& d : c.data) d.read_only();
  }
  return out;
}

std::vector<Case> all_cases(const Ready& plugin, ThreadPool& pool, uint64_t seed, bool variants) {
  std::vector<Case> out;
  for (size_t i = 0; i < plugin.formats.size(); ++i) {
    const size_t before = out.size();
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{64, 256}, {200, 384}}) {
      for (Case& c : make_cases(plugin, i, pool, n, k, seed, variants && n == 64))
        out.push_back(std::move(c));
    }
    if (out.size() == before) {
      fail_test(
          "format '{}' gives no layer of [64, 256] or [200, 384]: it needs a quantizer or the "
          "extension {}",
          plugin.formats[i]->id(), PLUQ_SAMPLES);
    }
  }
  return out;
}

Case filled(const Instance& like, uint64_t seed, bool hostile) {
  Case out;
  out.format = like.layer().format;
  out.raw = like.layer().raw;
  out.quantization = like.layer().quantization;
  out.n = like.layer().n;
  out.k = like.layer().k;
  out.label = like.layer().label + (hostile ? " with random bytes" : " filled by its samples");
  for (pluq_weight_spec spec : like.specs()) {
    if (like.tensor(text_of(spec.suffix)) == nullptr) continue;  // optional and absent
    add_tensor(&out, text_of(spec.suffix), spec.dtype, {spec.shape, spec.rank});
    if (hostile) spec.sample.kind = PLUQ_SAMPLE_BITS;
    fill(like.raw().self, spec, seed + out.tensors.size(), out.n, out.k, out.data.back());
    out.data.back().read_only();
  }
  return out;
}

}  // namespace pluq::conformance
