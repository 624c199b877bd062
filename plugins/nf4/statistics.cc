// SPDX-License-Identifier: Apache-2.0
#include "nf4/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "nf4/tables.h"

namespace nf4 {
namespace {

using namespace pluq;

constexpr char kState[] = "weight.quant_state.bitsandbytes__";

// The number after "key": in a flat JSON object; `absent` when the key is not there. The quant
// state is the tool's own json.dumps of numbers, short texts and one list.
double number(const std::string& layer, const std::string& text, const char* key, double absent) {
  const size_t at = text.find("\"" + std::string(key) + "\"");
  if (at == std::string::npos) return absent;
  size_t from = text.find_first_not_of(" \t\r\n", at + std::strlen(key) + 2);
  if (from == std::string::npos || text[from] != ':') from = text.size();
  const char* begin = text.c_str() + std::min(from + 1, text.size());
  char* end = nullptr;
  const double value = std::strtod(begin, &end);
  if (end == begin || !std::isfinite(value)) {
    throw invalid("layer " + layer + ": '" + key +
                  "' of the quant state is no number: " + text.substr(0, 200));
  }
  return value;
}

int64_t size_of(const std::string& layer, const std::string& text, const char* key,
                int64_t absent) {
  const double value = number(layer, text, key, static_cast<double>(absent));
  if (value < 1 || value > 65536 || value != std::floor(value)) {
    throw invalid(
        format("layer %s: '%s' of the quant state is %g, expected an integer from 1 to 65536",
               layer.c_str(), key, value));
  }
  return static_cast<int64_t>(value);
}

void check_count(const std::string& layer, const Tensor& t, int64_t count) {
  if (t.elements() == count) return;
  throw invalid(format("layer %s: tensor '%s' is %s, expected %lld values", layer.c_str(),
                       t.name().c_str(), t.text().c_str(), static_cast<long long>(count)));
}

void check_finite(const std::string& layer, const Tensor& t, bool values) {
  if (t.dtype_id() != PLUQ_DTYPE_F32) {
    throw invalid("layer " + layer + ": tensor '" + t.name() + "' is " + t.text() +
                  ", expected F32");
  }
  for (int64_t i = 0; values && i < t.elements(); ++i) {
    if (std::isfinite(t.load<float>(i))) continue;
    throw invalid(format("layer %s: %s holds a value that is not finite at %lld", layer.c_str(),
                         t.name().c_str(), static_cast<long long>(i)));
  }
}

}  // namespace

std::string state_suffix(const Tensors& tensors) {
  for (const Tensor& t : tensors.all()) {
    if (t.name().rfind(kState, 0) == 0) return t.name();
  }
  return {};
}

Statistics read_statistics(const std::string& layer, const Tensors& tensors, int64_t elements,
                           bool check_values) {
  Statistics out;
  const std::string suffix = state_suffix(tensors);
  std::string text;
  if (!suffix.empty()) {
    const Tensor& state = tensors.at(suffix);
    text.assign(reinterpret_cast<const char*>(state.data()), static_cast<size_t>(state.bytes()));
  }
  out.blocksize = size_of(layer, text, "blocksize", 64);
  const int64_t blocks = (elements + out.blocksize - 1) / out.blocksize;
  const Tensor& absmax = tensors.at("weight.absmax");
  check_count(layer, absmax, blocks);
  out.nested = absmax.dtype_id() == PLUQ_DTYPE_U8;
  if (out.nested) {
    if (text.find("\"nested_offset\"") == std::string::npos) {
      throw invalid("layer " + layer +
                    ": weight.absmax is U8, but the quant state has no 'nested_offset'");
    }
    out.nested_blocksize = size_of(layer, text, "nested_blocksize", 256);
    out.nested_offset = static_cast<float>(number(layer, text, "nested_offset", 0));
    const Tensor &map = tensors.at("weight.nested_quant_map"),
                 &scales = tensors.at("weight.nested_absmax");
    check_count(layer, map, 256);
    check_count(layer, scales, (blocks + out.nested_blocksize - 1) / out.nested_blocksize);
    check_finite(layer, map, check_values);
    check_finite(layer, scales, check_values);
  } else {
    check_finite(layer, absmax, check_values);
  }
  out.bind(tensors);
  if (const Tensor* map = tensors.find("weight.quant_map")) {
    check_count(layer, *map, 16);
    check_finite(layer, *map, check_values);
    for (int i = 0; i < 16; ++i) out.map[static_cast<size_t>(i)] = map->load<float>(i);
  } else {
    out.map = suffix.size() >= 3 && suffix.compare(suffix.size() - 3, 3, "fp4") == 0 ? kFp4 : kNf4;
  }
  return out;
}

}  // namespace nf4
