// SPDX-License-Identifier: Apache-2.0
// Decode attention of a Llama-3-8B (32 query and 8 KV heads of 128) over paged KV caches of every
// type. Prints one JSON document.
//   gpu_attention_bench [--device D] [--seconds S] [--contexts 1024,8192,32768] [--batches 1,16]
// Successive calls read different layers, together more than 200 MB, so that the cache comes from
// memory; calls are recorded as one piece of work (a CUDA graph); medians of 7 by the host's clock.
// Contents are random. `of_bf16`: time per token over that of a bf16 cache. A device that is not
// there: exit 77.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/runtime.h"
#include "model/kv_view.h"

namespace {

using namespace pluq;

constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 128;
constexpr int64_t kRotate = int64_t{200} << 20;
constexpr int kRounds = 7;

struct CacheType {
  const char* name;
  uint32_t dtype;
  int64_t bytes;  // of an element
  bool token_scales;
};
constexpr CacheType kTypes[] = {{"bf16", PLUQ_DTYPE_BF16, 2, false},
                                {"f16", PLUQ_DTYPE_F16, 2, false},
                                {"fp8_e4m3:head", PLUQ_DTYPE_F8_E4M3, 1, false},
                                {"fp8_e4m3:token", PLUQ_DTYPE_F8_E4M3, 1, true},
                                {"int8:head", PLUQ_DTYPE_I8, 1, false}};

class Bench {
 public:
  Bench(const std::string& device, double seconds)
      : runtime_(open_device(parse_device(device))),
        ops_(runtime_->ops(PLUQ_DTYPE_BF16)),
        seconds_(seconds),
        noise_(size_t{16} << 20) {
    // Bytes whose 8- and 16-bit floats are finite and small: exponents below one.
    std::mt19937 random(7);
    for (uint16_t& word : noise_) word = static_cast<uint16_t>(random() & 0xbf37U);
  }

  void run(const std::vector<int64_t>& contexts, const std::vector<int64_t>& batches) {
    std::printf("{\"device\": \"%s\", \"results\": [", runtime_->name().c_str());
    const char* comma = "";
    for (const int64_t context : contexts) {
      for (const int64_t batch : batches) {
        double bf16 = 0;
        for (const CacheType& type : kTypes) {
          const double us = time_of(context, batch, type);
          if (bf16 == 0) bf16 = us;
          const auto bytes = static_cast<double>(cache_bytes(context, batch, type));
          std::printf(
              "%s\n  {\"context\": %lld, \"batch\": %lld, \"kv\": \"%s\", \"us\": %.2f, "
              "\"of_bf16\": %.3f, \"gb_s\": %.1f}",
              comma, static_cast<long long>(context), static_cast<long long>(batch), type.name, us,
              us / bf16, bytes / us / 1e3);
          comma = ",";
          std::fflush(stdout);
        }
      }
    }
    std::printf("\n]}\n");
  }

 private:
  // K and V of one layer, without scales.
  static int64_t cache_bytes(int64_t context, int64_t batch, const CacheType& type) {
    return 2 * batch * context * kKvHeads * kHeadDim * type.bytes;
  }

  template <class T>
  DeviceBuffer upload(const std::vector<T>& v) const {
    DeviceBuffer out(runtime_, v.size() * sizeof(T), "the benchmark");
    runtime_->upload(out.data(), v.data(), out.bytes());
    return out;
  }
  DeviceBuffer noise(int64_t bytes) const {
    DeviceBuffer out(runtime_, static_cast<uint64_t>(bytes), "the benchmark");
    const uint64_t piece = noise_.size() * sizeof noise_[0];
    for (uint64_t at = 0; at < out.bytes(); at += piece) {
      runtime_->upload(out.as<std::byte>() + at, noise_.data(), std::min(piece, out.bytes() - at));
    }
    return out;
  }

  // Microseconds of attention over one layer for one new token of each sequence.
  double time_of(int64_t context, int64_t batch, const CacheType& type) {
    const int64_t blocks = (context + kKvBlock - 1) / kKvBlock * batch;
    const int64_t layers =
        std::clamp<int64_t>(kRotate / cache_bytes(context, batch, type) + 1, 1, 64);
    const int64_t elements = layers * blocks * kKvHeads * kKvBlock * kHeadDim;
    const DeviceBuffer k = noise(elements * type.bytes), v = noise(elements * type.bytes);
    const auto scales = static_cast<size_t>(layers * kKvHeads *
                                            (type.token_scales ? blocks * kKvBlock : int64_t{1}));
    const DeviceBuffer scale = upload(std::vector<float>(type.bytes == 1 ? scales : 0, 0.01F));
    std::vector<DeviceChunk> chunks;
    std::vector<int32_t> tables, row_chunk;
    for (int64_t i = 0; i < batch; ++i) {
      DeviceChunk c;
      c.k = k.data(), c.v = v.data();
      c.k_scale = c.v_scale = scale.as<float>();
      c.num_blocks = blocks;
      c.first_row = static_cast<int32_t>(i), c.count = 1;
      c.start = static_cast<int32_t>(context - 1);
      c.table = static_cast<int32_t>(tables.size());
      // Blocks of the sequences are interleaved, as in a cache that grew step by step.
      for (int64_t b = 0; b < blocks / batch; ++b) {
        tables.push_back(static_cast<int32_t>(b * batch + i));
      }
      row_chunk.push_back(static_cast<int32_t>(i));
      chunks.push_back(c);
    }
    const DeviceBuffer d_chunks = upload(chunks), d_tables = upload(tables),
                       d_rows = upload(row_chunk);
    const int64_t width = (kHeads + 2 * kKvHeads) * kHeadDim;
    const DeviceBuffer qkv = noise(batch * width * 2), out = noise(batch * kHeads * kHeadDim * 2);
    const auto partial_floats =
        static_cast<uint64_t>(attention_partial_floats(runtime_->description().sm_count, kHeadDim));
    const DeviceBuffer partial(runtime_, partial_floats * sizeof(float), "the benchmark");

    AttentionBatch b;
    b.chunks = d_chunks.as<DeviceChunk>();
    b.row_chunk = d_rows.as<int32_t>();
    b.tables = d_tables.as<int32_t>();
    b.rows = b.num_chunks = batch;
    b.longest = 1;
    b.keys = context;
    b.kv_dtype = type.dtype;
    b.token_scales = type.token_scales;
    AttentionShape s;
    s.ld = width;
    s.heads = kHeads, s.kv_heads = kKvHeads, s.head_dim = kHeadDim;
    s.scale = 0.088388F;
    const auto call = [&](int64_t i) {
      s.layer = i % layers;
      ops_.attention(qkv.as<uint16_t>(), s, b, partial.as<float>(), out.as<uint16_t>());
    };
    return median_time(layers, call);
  }

  template <class F>
  double median_time(int64_t layers, const F& call) {
    const auto clocked = [&](int64_t calls) {
      const std::unique_ptr<RecordedWork> work = runtime_->record([&] {
        for (int64_t i = 0; i < calls; ++i) call(i);
      });
      std::vector<double> times;
      for (int round = 0; round <= kRounds; ++round) {
        runtime_->synchronize();
        const auto begin = std::chrono::steady_clock::now();
        work->run();
        runtime_->synchronize();
        const std::chrono::duration<double, std::micro> took =
            std::chrono::steady_clock::now() - begin;
        if (round > 0) times.push_back(took.count() / static_cast<double>(calls));  // 0 warms up
        if (seconds_ <= 0) return took.count() / static_cast<double>(calls);
      }
      std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
      return times[kRounds / 2];
    };
    if (seconds_ <= 0) return clocked(1);
    call(0);  // whatever is made lazily
    const double once = clocked(layers);
    return clocked(
        std::clamp<int64_t>(static_cast<int64_t>(seconds_ * 1e6 / kRounds / once), layers, 2000));
  }

  std::shared_ptr<DeviceRuntime> runtime_;
  EngineOps& ops_;
  double seconds_;
  std::vector<uint16_t> noise_;
};

std::vector<int64_t> numbers(const char* text) {
  std::vector<int64_t> out;
  for (const char* p = text; *p != 0;) {
    char* end = nullptr;
    const int64_t n = std::strtoll(p, &end, 10);
    if (end == p || n < 1 || (*end != 0 && *end != ',')) {
      std::fprintf(stderr, "'%s' is no list of numbers from 1 on, such as 1,16\n", text);
      std::exit(2);
    }
    out.push_back(n);
    p = *end == ',' ? end + 1 : end;
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  std::string device = "cuda";
  double seconds = 0.1;
  std::vector<int64_t> contexts{1024, 8192, 32768}, batches{1, 16};
  for (int i = 1; i < argc; i += 2) {
    const std::string flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (value != nullptr && flag == "--device") {
      device = value;
    } else if (value != nullptr && flag == "--seconds") {
      seconds = std::atof(value);
    } else if (value != nullptr && flag == "--contexts") {
      contexts = numbers(value);
    } else if (value != nullptr && flag == "--batches") {
      batches = numbers(value);
    } else {
      std::fprintf(stderr,
                   "%s: unknown, or without its value; accepted are --device D, --seconds S (0: "
                   "one call each), --contexts N,..., --batches N,...\n",
                   flag.c_str());
      return 2;
    }
  }
  try {
    Bench(device, seconds).run(contexts, batches);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 77;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
