// SPDX-License-Identifier: Apache-2.0
// What the parts of the fake host share; tests include fake_host.h.
#pragma once

#include <barrier>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/fake_host.h"

namespace pluq::test {

inline std::string text_of(pluq_str s) {
  return std::string(s.data == nullptr ? "" : s.data, s.data == nullptr ? 0 : s.size);
}
inline pluq_str str_of(std::string_view s) { return {s.data(), s.size()}; }
inline pluq_dtype scalar_dtype(uint32_t id) {
  return {id, 1, static_cast<uint32_t>(element_bytes(id))};
}

// The table that plugins get, and a cursor into JSON.
const pluq_host& fake_table();
inline const pluq_json* cursor(const boost::json::value* v) {
  return reinterpret_cast<const pluq_json*>(v);
}
// The table of pluq.cuda_emulator/1.
const void* cuda_emulator_table();
const void* gemm_table();
// Throws Refusal.
void check(pluq_status* status);
pluq_tensor view(const FileTensor& t, bool with_data);

// A region on n threads; exec is first, since the callbacks get a pointer to it.
struct Threads {
  pluq_exec exec{};
  std::unique_ptr<std::barrier<>> barrier;
};
void prepare(Threads* t, int n_workers, void* workspace, uint64_t bytes);

std::vector<BoxSpec> read_specs(const std::vector<pluq_weight_spec>& specs);

template <class Call>
std::vector<BoxSpec> ask_specs(const Call& call) {
  size_t count = 0;
  check(call(nullptr, &count));
  std::vector<pluq_weight_spec> specs(count);
  for (pluq_weight_spec& s : specs) {
    s.struct_size = sizeof s;
    s.sample.struct_size = sizeof s.sample;
  }
  check(call(specs.data(), &count));
  return read_specs(specs);
}

}  // namespace pluq::test
