// SPDX-License-Identifier: Apache-2.0
#include "device/cuda_emulator/emulator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <limits>
#include <utility>

#include "base/error.h"
#include "device/cuda_emulator/block.h"

namespace pluq::cuda_emulator {
namespace {

// CUDA C++ programming guide, table "Technical Specifications per Compute Capability".
constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxBlockZ = 64;
constexpr uint32_t kMaxGridYZ = 65535;

int32_t answer(int32_t code, const std::string& text, char* message, size_t bytes) {
  if (message != nullptr && bytes > 0) {
    const size_t n = std::min(text.size(), bytes - 1);
    std::memcpy(message, text.data(), n);
    message[n] = 0;
  }
  return code;
}

std::string wrong_shape(const Emulator& device, const pluq_emu_launch& l) {
  const uint64_t threads = uint64_t{l.block_dim[0]} * l.block_dim[1] * l.block_dim[2];
  if (threads == 0 || threads > kMaxThreads || l.block_dim[2] > kMaxBlockZ) {
    return fmt::format("kernel {}: a block of {} x {} x {} threads; 1 to {} in all, z up to {}",
                       l.name, l.block_dim[0], l.block_dim[1], l.block_dim[2], kMaxThreads,
                       kMaxBlockZ);
  }
  if (l.grid_dim[0] == 0 || l.grid_dim[1] == 0 || l.grid_dim[2] == 0 ||
      l.grid_dim[0] > std::numeric_limits<int32_t>::max() || l.grid_dim[1] > kMaxGridYZ ||
      l.grid_dim[2] > kMaxGridYZ) {
    return fmt::format("kernel {}: a grid of {} x {} x {} blocks; 1 to 2^31 - 1, {} and {}", l.name,
                       l.grid_dim[0], l.grid_dim[1], l.grid_dim[2], kMaxGridYZ, kMaxGridYZ);
  }
  const uint32_t limit = shared_limit(device.compute_capability());
  if (l.shared_bytes > limit) {
    return fmt::format("kernel {}: {} bytes of shared memory, sm_{} has {} per block", l.name,
                       l.shared_bytes, device.compute_capability(), limit);
  }
  return {};
}

// Whether the kernel says what it reads and writes; plugins of an older revision do not.
bool reports_global(const pluq_emu_launch& l) {
  return l.struct_size >= offsetof(pluq_emu_launch, reserved) &&
         (l.reports & PLUQ_EMU_REPORTS_GLOBAL) != 0;
}

int32_t launch(void* stream, const pluq_emu_launch* l, char* message, size_t bytes) {
  try {
    if (stream == nullptr) {
      return answer(PLUQ_EMU_INVALID, "the stream is not that of an emulated device", message,
                    bytes);
    }
    auto& device = *static_cast<Emulator*>(stream);
    if (const std::string wrong = wrong_shape(device, *l); !wrong.empty()) {
      return answer(PLUQ_EMU_INVALID, wrong, message, bytes);
    }
    device.count_launch();
    if (!reports_global(*l) && (device.checks() & PLUQ_EMU_CHECK_GLOBAL_INIT) != 0)
      device.note_all_written();
    Launch run(device, *l);
    const std::string mistake = run.run();
    return answer(mistake.empty() ? PLUQ_EMU_OK : PLUQ_EMU_FAULT, mistake, message, bytes);
  } catch (const std::exception& error) {
    return answer(PLUQ_EMU_INVALID, error.what(), message, bytes);
  }
}

int32_t find_range(void* stream, const void* p, const void** begin, uint64_t* bytes) {
  const Emulator::Range range = static_cast<Emulator*>(stream)->range_of(p);
  if (range.begin == nullptr) return 0;
  *begin = range.begin;
  *bytes = range.bytes;
  return 1;
}

pluq_cuda_emulator make_table() {
  pluq_cuda_emulator t{};
  t.struct_size = sizeof t;
  t.launch = launch;
  t.find_range = find_range;
  t.fail = [](pluq_emu_block* block, const char* text, const char* file, uint32_t line) {
    Launch::of(block).fail({file, line}, "{}", text);
  };
  t.static_shared = [](pluq_emu_block* block, const void* key, uint32_t bytes, uint32_t align,
                       const char* file, uint32_t line) {
    return Launch::of(block).static_shared(key, bytes, align, {file, line});
  };
  t.shared_access = [](pluq_emu_block* block, uint32_t thread, uint32_t offset, uint32_t bytes,
                       uint32_t kind, const char* file, uint32_t line) {
    Launch::of(block).shared_access(thread, offset, bytes, kind, {file, line});
  };
  t.collective = [](pluq_emu_block* block, const char* what, uint32_t group, uint32_t mask,
                    void* operand, pluq_emu_run run, void* user, const char* file, uint32_t line) {
    Launch::of(block).collective(what, group, mask, operand, run, user, false, {file, line});
  };
  t.sync_warp = [](pluq_emu_block* block, uint32_t mask, const char* file, uint32_t line) {
    Launch::of(block).collective("sync_warp", kWarp, mask, nullptr, nullptr, nullptr, true,
                                 {file, line});
  };
  t.barrier = [](pluq_emu_block* block, uint32_t id, uint32_t count, uint32_t arrive,
                 const char* file, uint32_t line) {
    Launch::of(block).barrier(id, count, arrive != 0, {file, line});
  };
  t.async_copy = [](pluq_emu_block* block, uint32_t dst, const void* src, uint32_t dst_bytes,
                    uint32_t src_bytes, const char* file, uint32_t line) {
    Launch::of(block).async_copy(dst, src, dst_bytes, src_bytes, {file, line});
  };
  t.async_commit = [](pluq_emu_block* block) { Launch::of(block).async_commit(); };
  t.async_wait = [](pluq_emu_block* block, uint32_t pending, uint32_t all, const char* file,
                    uint32_t line) {
    Launch::of(block).async_wait(pending, all != 0, {file, line});
  };
  t.pause = [](pluq_emu_block* block, const char* file, uint32_t line) {
    Launch::of(block).pause({file, line});
  };
  t.mbar_init = [](pluq_emu_block* block, uint32_t offset, uint32_t count, const char* file,
                   uint32_t line) {
    Launch::of(block).mbar_init(offset, count, {file, line});
  };
  t.mbar_arrive = [](pluq_emu_block* block, uint32_t offset, uint32_t tx_bytes, const char* file,
                     uint32_t line) {
    Launch::of(block).mbar_arrive(offset, tx_bytes, {file, line});
  };
  t.mbar_wait = [](pluq_emu_block* block, uint32_t offset, uint32_t parity, const char* file,
                   uint32_t line) {
    Launch::of(block).mbar_wait(offset, parity, {file, line});
  };
  t.bulk_copy = [](pluq_emu_block* block, uint32_t dst, const void* src, uint32_t bytes,
                   uint32_t mbar, const char* file, uint32_t line) {
    Launch::of(block).bulk_copy(dst, src, bytes, mbar, {file, line});
  };
  t.global_access = [](pluq_emu_block* block, const void* p, uint32_t bytes, uint32_t kind,
                       const char* file, uint32_t line) {
    Launch::of(block).global_access(p, bytes, kind, {file, line});
  };
  t.thread_fence = [](pluq_emu_block* block) { Launch::of(block).thread_fence(); };
  t.wgmma_accumulators = [](pluq_emu_block* block, uint32_t thread, uint32_t* d, uint32_t words,
                            const uint32_t* a, const char* file, uint32_t line) {
    return Launch::of(block).wgmma_accumulators(thread, d, words, a, {file, line});
  };
  t.wgmma_reads = [](pluq_emu_block* block, uint32_t first_thread, uint32_t offset,
                     const char* file, uint32_t line) {
    Launch::of(block).wgmma_reads(first_thread, offset, {file, line});
  };
  t.wgmma_order = [](pluq_emu_block* block, uint32_t op, uint32_t pending, const char* file,
                     uint32_t line) {
    Launch::of(block).wgmma_order(op, pending, {file, line});
  };
  t.wgmma_value = [](pluq_emu_block* block, const uint32_t* value, uint32_t words, const char* file,
                     uint32_t line) {
    Launch::of(block).wgmma_value(value, words, {file, line});
  };
  t.proxy_fence = [](pluq_emu_block* block, uint32_t kind) { Launch::of(block).proxy_fence(kind); };
  return t;
}

}  // namespace

uint32_t shared_limit(uint32_t compute_capability) {
  switch (compute_capability) {
    case 80:
      return 163 * 1024;
    case 89:
      return 99 * 1024;
    case 90:
      return 227 * 1024;
    default:
      return 0;
  }
}

const pluq_cuda_emulator* table() {
  static const pluq_cuda_emulator t = make_table();
  return &t;
}

Emulator::Emulator(uint32_t compute_capability, uint32_t checks)
    : capability_(compute_capability), checks_(checks) {
  if (shared_limit(compute_capability) == 0) {
    fail_usage("the CUDA emulator has no sm{}; accepted: sm80, sm89, sm90", compute_capability);
  }
}

void Emulator::register_memory(const void* data, uint64_t bytes, std::string what) {
  const auto* begin = static_cast<const uint8_t*>(data);
  Allocation fresh(begin, bytes, std::move(what), (checks_ & PLUQ_EMU_CHECK_GLOBAL_INIT) != 0);
  const std::lock_guard lock(mutex_);
  allocations_.insert_or_assign(begin, std::move(fresh));
}

void Emulator::forget_memory(const void* data) {
  const std::lock_guard lock(mutex_);
  allocations_.erase(static_cast<const uint8_t*>(data));
}

void Emulator::note_written(const void* data, uint64_t bytes) {
  if ((checks_ & PLUQ_EMU_CHECK_GLOBAL_INIT) == 0) return;
  Allocation* a = allocation_of(data);
  if (a == nullptr) return;
  a->note_written(static_cast<uint64_t>(static_cast<const uint8_t*>(data) - a->begin()), bytes);
}

void Emulator::note_all_written() {
  const std::lock_guard lock(mutex_);
  for (auto& [begin, allocation] : allocations_) allocation.note_written(0, allocation.bytes());
}

const Allocation* Emulator::find(const void* address) const {
  auto it = allocations_.upper_bound(static_cast<const uint8_t*>(address));
  if (it == allocations_.begin()) return nullptr;
  --it;
  return it->second.holds(address) ? &it->second : nullptr;
}

Emulator::Range Emulator::range_of(const void* address) const {
  const std::lock_guard lock(mutex_);
  const Allocation* a = find(address);
  return a == nullptr ? Range{} : Range{a->begin(), a->bytes()};
}

Allocation* Emulator::allocation_of(const void* address) {
  const std::lock_guard lock(mutex_);
  return const_cast<Allocation*>(find(address));
}

}  // namespace pluq::cuda_emulator
