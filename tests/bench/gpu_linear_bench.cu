// SPDX-License-Identifier: Apache-2.0
// Linear layers of a Llama-3-8B on a GPU: every kind of weight against bf16 by cuBLASLt and against
// the copy bandwidth of the same run. Prints one JSON document.
//   gpu_linear_bench [--seconds S] [--shapes qkv,o,gate_up,down,lm_head] [--rows 1,2,4,...]
// Weights rotate through more than 200 MB, so that they come from memory; a CUDA graph holds the
// calls of one timing; medians of 7. Contents are random.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "device/cuda/products.h"
#include "pluq/cuda/quantized/ops.h"

namespace {

using namespace pluq;
using cuda::OpError;
using cuda::Real;

constexpr int64_t kRotate = int64_t{200} << 20;
constexpr int kRounds = 7;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
void check(const OpError& error) {
  if (!error) return;
  std::fprintf(stderr, "%s\n", error.text.c_str());
  std::exit(1);
}

__global__ void fill_bytes_kernel(uint32_t* out, int64_t words, uint32_t seed, uint32_t keep,
                                  uint32_t set) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= words) return;
  uint32_t v = static_cast<uint32_t>(i) * 2654435761U + seed;
  v ^= v >> 16;
  v *= 2246822519U;
  v ^= v >> 13;
  out[i] = (v & keep) | set;
}

// Memory of the device that lives as long as the program.
struct Buffer {
  uint8_t* data = nullptr;
  int64_t bytes = 0;
};
// keep and set: which bits are random, which are one (so that 16-bit floats are of ordinary size).
Buffer random_buffer(int64_t bytes, uint32_t keep = 0xffffffffU, uint32_t set = 0) {
  static uint32_t seed = 1;
  Buffer b;
  b.bytes = (bytes + 255) / 256 * 256;
  check(cudaMalloc(reinterpret_cast<void**>(&b.data), static_cast<size_t>(b.bytes)), "memory");
  const int64_t words = b.bytes / 4;
  fill_bytes_kernel<<<static_cast<unsigned>((words + 255) / 256), 256>>>(
      reinterpret_cast<uint32_t*>(b.data), words, seed++, keep, set);
  return b;
}
// bf16 values between 2^-7 and 2^-6 in size, of both signs.
Buffer bfloat_buffer(int64_t count) { return random_buffer(count * 2, 0x807f807fU, 0x3c003c00U); }
Buffer float_buffer(int64_t count) { return random_buffer(count * 4, 0x007fffffU, 0x3c000000U); }

struct Stream {
  cudaStream_t stream = nullptr;
  pluq_host host{};
  pluq_exec exec{};
  Stream() {
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
    host.struct_size = sizeof host;
    host.get_extension = [](const pluq_host*, const char*) -> const void* { return nullptr; };
    exec.struct_size = sizeof exec;
    exec.device_kind = PLUQ_DEVICE_CUDA;
    exec.host = &host;
    exec.stream = stream;
    exec.worker = -1;
    exec.n_workers = 1;
  }
};

// Median microseconds of one call; call(i) uses the i-th copy of its weights.
double time_of(Stream& s, int copies, double seconds, const std::function<void(int)>& call) {
  for (int i = 0; i < 2; ++i) call(i % copies);
  check(cudaStreamSynchronize(s.stream), "warming up");
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "an event");
  check(cudaEventCreate(&end), "an event");
  const auto measure = [&](cudaGraphExec_t graph, int calls) {
    check(cudaEventRecord(begin, s.stream), "an event");
    check(cudaGraphLaunch(graph, s.stream), "a graph");
    check(cudaEventRecord(end, s.stream), "an event");
    check(cudaEventSynchronize(end), "waiting");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "a time");
    return static_cast<double>(ms) * 1000 / calls;
  };
  const auto record = [&](int calls) {
    check(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal), "recording");
    for (int i = 0; i < calls; ++i) call(i % copies);
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(s.stream, &graph), "recording");
    cudaGraphExec_t executable = nullptr;
    check(cudaGraphInstantiate(&executable, graph, 0), "a graph");
    cudaGraphDestroy(graph);
    return executable;
  };
  cudaGraphExec_t one = record(copies);
  const double first = measure(one, copies);
  cudaGraphExecDestroy(one);
  const int calls =
      std::clamp(static_cast<int>(seconds * 1e6 / kRounds / std::max(first, 1.0)), copies, 2000);
  cudaGraphExec_t graph = record(calls);
  std::vector<double> times;
  for (int i = 0; i < kRounds; ++i) times.push_back(measure(graph, calls));
  cudaGraphExecDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
  return times[kRounds / 2];
}

struct Shape {
  const char* name;
  int64_t n, k;
};
constexpr Shape kShapes[] = {{"qkv", 6144, 4096},
                             {"o", 4096, 4096},
                             {"gate_up", 28672, 4096},
                             {"down", 4096, 14336},
                             {"lm_head", 128256, 4096}};

struct Kind {
  const char* name;
  double bytes_per_weight;
  // Prepares `copies` sets of weights and returns the call for m rows.
  std::function<std::function<void(int)>(int copies, int64_t m)> prepare;
};

class Bench {
 public:
  explicit Bench(double seconds) : seconds_(seconds) {
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, 0), "the GPU");
    name_ = p.name;
    sm_ = p.major * 10 + p.minor;
    sm_count_ = static_cast<uint32_t>(p.multiProcessorCount);
    workspace_ = random_buffer(static_cast<int64_t>(Products::kWorkspace));
    products_.set_workspace(workspace_.data);
  }

  void run(const std::vector<std::string>& shapes, const std::vector<int64_t>& rows) {
    int runtime = 0, driver = 0, clock = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0);
    const double copy = copy_bandwidth();
    std::printf(
        "{\"device\": \"%s\", \"sm\": %d, \"multiprocessors\": %u, \"runtime\": %d, \"driver\": "
        "%d, "
        "\"clock_khz\": %d, \"copy_gb_s\": %.1f,\n \"results\": [",
        name_.c_str(), sm_, sm_count_, runtime, driver, clock, copy);
    bool comma = false;
    for (const Shape& shape : kShapes) {
      if (std::find(shapes.begin(), shapes.end(), shape.name) == shapes.end()) continue;
      for (const int64_t m : rows) {
        double bf16 = 0;
        for (const Kind& kind : kinds(shape)) {
          const size_t before = owned_.size();
          const int copies = static_cast<int>(std::clamp<int64_t>(
              kRotate / static_cast<int64_t>(static_cast<double>(shape.n * shape.k) *
                                             kind.bytes_per_weight) +
                  1,
              1, 24));
          const std::function<void(int)> call = kind.prepare(copies, m);
          const double us = time_of(stream_, copies, seconds_, call);
          if (bf16 == 0) bf16 = us;
          std::printf(
              "%s\n  {\"layer\": \"%s\", \"n\": %lld, \"k\": %lld, \"m\": %lld, \"kind\": \"%s\", "
              "\"us\": %.2f, "
              "\"over_bf16\": %.3f, \"gb_s\": %.1f, \"of_copy\": %.3f, \"tflops\": %.1f}",
              comma ? "," : "", shape.name, static_cast<long long>(shape.n),
              static_cast<long long>(shape.k), static_cast<long long>(m), kind.name, us, bf16 / us,
              gb_s(shape, kind, us), gb_s(shape, kind, us) / copy,
              2e-6 * static_cast<double>(m) * static_cast<double>(shape.n) *
                  static_cast<double>(shape.k) / us);
          comma = true;
          std::fflush(stdout);
          release(before);
        }
      }
    }
    std::printf("\n]}\n");
  }

 private:
  static double gb_s(const Shape& s, const Kind& k, double us) {
    return static_cast<double>(s.n * s.k) * k.bytes_per_weight / us / 1e3;
  }
  Buffer own(Buffer b) {
    owned_.push_back(b.data);
    return b;
  }
  void release(size_t keep) {
    check(cudaStreamSynchronize(stream_.stream), "waiting");
    while (owned_.size() > keep) {
      cudaFree(owned_.back());
      owned_.pop_back();
    }
  }

  // Bytes read and written, as copy bandwidth is counted.
  double copy_bandwidth() {
    constexpr int64_t kBytes = int64_t{1} << 30;
    const Buffer from = own(random_buffer(kBytes)), to = own(random_buffer(kBytes));
    const double us = time_of(stream_, 1, seconds_, [&](int) {
      check(cudaMemcpyAsync(to.data, from.data, kBytes, cudaMemcpyDeviceToDevice, stream_.stream),
            "copying");
    });
    release(0);
    return 2.0 * kBytes / us / 1e3;
  }

  std::vector<Kind> kinds(const Shape& s) {
    std::vector<Kind> out;
    out.push_back({"bf16 cuBLASLt", 2, [this, s](int copies, int64_t m) {
                     const Buffer w = own(bfloat_buffer(copies * s.n * s.k)),
                                  x = own(bfloat_buffer(m * s.k)), y = own(bfloat_buffer(m * s.n));
                     return std::function<void(int)>([=](int i) {
                       pluq_gemm_args g{};
                       g.struct_size = sizeof g;
                       g.x_type = g.w_type = g.y_type = PLUQ_DTYPE_BF16;
                       g.m = m, g.n = s.n, g.k = s.k;
                       g.x = x.data, g.ldx = s.k;
                       g.w = w.data + i * s.n * s.k * 2, g.ldw = s.k;
                       g.y = y.data, g.ldy = s.n;
                       if (!products_.run(stream_.stream, g, nullptr)) std::exit(1);
                     });
                   }});
    for (const int bits : {4, 8}) {
      out.push_back(
          {bits == 4 ? "int4 g128" : "int8 g128", bits / 8.0 + 2.0 / 128,
           [this, s, bits](int copies, int64_t m) {
             const int64_t codes = s.n * s.k * bits / 8, table = s.k / 128 * s.n * 2;
             const Buffer w = own(random_buffer(copies * codes)),
                          scales = own(bfloat_buffer(copies * table / 2)),
                          x = own(bfloat_buffer(m * s.k)), y = own(bfloat_buffer(m * s.n)),
                          partial =
                              own(random_buffer(cuda::wo_partial_bytes(m, s.n, s.k, sm_count_))),
                          counters = own(random_buffer(cuda::wo_counters(m, s.n) * 4, 0, 0));
             return std::function<void(int)>([=](int i) {
               cuda::WeightOnly a;
               a.m = m, a.n = s.n, a.k = s.k, a.bits = bits, a.group = 128;
               a.codes = w.data + i * codes;
               a.scales = reinterpret_cast<const uint16_t*>(scales.data + i * table);
               a.scales_bf16 = a.bf16 = true;
               a.x = x.data, a.ldx = s.k;
               a.y = y.data, a.ldy = s.n, a.y_type = static_cast<int32_t>(Real::kBf16);
               a.partial = reinterpret_cast<float*>(partial.data);
               a.counters = reinterpret_cast<int32_t*>(counters.data);
               a.sm_count = sm_count_;
               check(cuda::quantized_ops_device().weight_only(&stream_.exec, a));
             });
           }});
    }
    out.push_back({"int8 W8A8, rounding included", 1, [this, s](int copies, int64_t m) {
                     return byte_product(copies, m, s, cuda::ByteKind::kS8,
                                         cuda::RoundMode::kInt8Token);
                   }});
    if (sm_ >= 89) {
      out.push_back({"fp8 W8A8, rounding included", 1, [this, s](int copies, int64_t m) {
                       return byte_product(copies, m, s, cuda::ByteKind::kE4m3,
                                           cuda::RoundMode::kFp8Token);
                     }});
      out.push_back(
          {"fp8 W8A8 by cuBLASLt, rounding included", 1, [this, s](int copies, int64_t m) {
             return byte_product(copies, m, s, cuda::ByteKind::kE4m3, cuda::RoundMode::kFp8Token,
                                 true);
           }});
      out.push_back(
          {"fp8 W8A8 in blocks of 128, rounding included", 1, [this, s](int copies, int64_t m) {
             return byte_product(copies, m, s, cuda::ByteKind::kE4m3, cuda::RoundMode::kFp8Group);
           }});
    }
    return out;
  }

  std::function<void(int)> byte_product(int copies, int64_t m, const Shape& s, cuda::ByteKind kind,
                                        cuda::RoundMode mode, bool library = false) {
    const int64_t pitch = cuda::byte_pitch(s.k);
    const int32_t splits = cuda::byte_splits(m, s.n, s.k, sm_count_);
    // e4m3 codes without the two NaNs
    const uint32_t keep = kind == cuda::ByteKind::kS8 ? 0xffffffffU : 0xbfbfbfbfU;
    // Scales per row, or of blocks of W of 128 x 128 and groups of x of 128 columns.
    const bool blocks = mode == cuda::RoundMode::kFp8Group;
    const int64_t groups = blocks ? (s.k + 127) / 128 : 1;
    const Buffer w = own(random_buffer(copies * s.n * pitch, keep)),
                 w_scale = own(float_buffer((blocks ? (s.n + 127) / 128 : s.n) * groups)),
                 x = own(bfloat_buffer(m * s.k)), codes = own(random_buffer(m * pitch)),
                 x_scale = own(float_buffer(m * groups)), y = own(bfloat_buffer(m * s.n)),
                 partial = own(random_buffer(splits > 1 ? splits * m * s.n * 4 : 4));
    return [=](int i) {
      cuda::RoundActivations r;
      r.mode = mode, r.group = 128;
      r.m = m, r.k = s.k, r.x = x.data, r.ldx = s.k, r.x_type = Real::kBf16;
      r.codes = codes.data;
      r.scales = reinterpret_cast<float*>(x_scale.data);
      check(cuda::quantized_ops_device().round(&stream_.exec, r));
      if (library) {
        pluq_gemm_args g{};
        g.struct_size = sizeof g;
        g.x_type = g.w_type = PLUQ_DTYPE_F8_E4M3;
        g.y_type = PLUQ_DTYPE_BF16;
        g.m = m, g.n = s.n, g.k = pitch;
        g.x = codes.data, g.ldx = pitch;
        g.w = w.data + i * s.n * pitch, g.ldw = pitch;
        g.y = y.data, g.ldy = s.n;
        g.x_scale_kind = g.w_scale_kind = PLUQ_GEMM_SCALE_PER_ROW;
        g.x_scale = reinterpret_cast<const float*>(x_scale.data);
        g.w_scale = reinterpret_cast<const float*>(w_scale.data);
        if (products_.run(stream_.stream, g, nullptr)) return;
      }
      cuda::ByteGemm g;
      g.kind = kind, g.sm = static_cast<uint32_t>(sm_), g.sm_count = sm_count_;
      if (blocks) g.a_group = g.b_group = g.b_rows = 128;
      g.m = m, g.n = s.n, g.k = s.k;
      g.a = codes.data, g.lda = pitch;
      g.b = w.data + i * s.n * pitch;
      g.a_scale = reinterpret_cast<const float*>(x_scale.data);
      g.b_scale = reinterpret_cast<const float*>(w_scale.data);
      g.y = y.data, g.ldy = s.n, g.y_type = Real::kBf16;
      g.splits = splits;
      if (splits > 1) g.partial = reinterpret_cast<float*>(partial.data);
      check(cuda::quantized_ops_device().byte_gemm(&stream_.exec, g));
    };
  }

  double seconds_;
  std::string name_;
  int sm_ = 0;
  uint32_t sm_count_ = 0;
  Stream stream_;
  Products products_;
  Buffer workspace_;
  std::vector<void*> owned_;
};

std::vector<std::string> words(const char* text) {
  std::vector<std::string> out(1);
  for (const char* p = text; *p != 0; ++p) {
    if (*p == ',') {
      out.emplace_back();
    } else {
      out.back() += *p;
    }
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 0.02;
  std::vector<std::string> shapes = words("qkv,o,gate_up,down,lm_head"),
                           rows = words("1,4,16,32,64,128,512,2048");
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--seconds") {
      seconds = std::atof(argv[i + 1]);
    } else if (flag == "--shapes") {
      shapes = words(argv[i + 1]);
    } else if (flag == "--rows") {
      rows = words(argv[i + 1]);
    } else {
      std::fprintf(stderr, "unknown flag %s; accepted are --seconds, --shapes, --rows\n", argv[i]);
      return 2;
    }
  }
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::fprintf(stderr, "no GPU\n");
    return 77;
  }
  std::vector<int64_t> m;
  for (const std::string& r : rows) m.push_back(std::max(1L, std::atol(r.c_str())));
  Bench(seconds).run(shapes, m);
  return 0;
}
