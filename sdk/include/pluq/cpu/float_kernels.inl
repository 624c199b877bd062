// SPDX-License-Identifier: Apache-2.0
// The float GEMM once, against a vocabulary (fvec_<isa>.h); included inside the ISA's namespace by
// float_gemm_<isa>.inl, which defines PLUQ_FLOAT_ISA_NAME.
//
// Per output (m, n) the order is fixed by K alone: one chain of multiply-adds over the columns of a
// segment (a scale block, or all of K), then one multiply-add of the segment's sum into the total.
// Small M decodes in registers; large M decodes 128 columns of a panel to L1 once and runs a
// register tile over all rows: the same chain, cut and resumed.

constexpr int kVectors = kFloatPanel / kLanes;

template <FloatType T>
inline F decode(const uint8_t* p) {
  if constexpr (T == FloatType::kF32) {
    return load(reinterpret_cast<const float*>(p));
  } else if constexpr (T == FloatType::kF16) {
    return load_f16(p);
  } else if constexpr (T == FloatType::kBf16) {
    return load_bf16(p);
  } else if constexpr (T == FloatType::kE4m3) {
    return load_e4m3(p);
  } else {
    return load_e5m2(p);
  }
}

template <FloatType T>
constexpr int element_bytes() {
  return T == FloatType::kF32 ? 4 : T == FloatType::kF16 || T == FloatType::kBf16 ? 2 : 1;
}

// V vectors that lie side by side.
template <FloatType T, int V>
inline void decode_all(const uint8_t* p, F* out) {
  int v = 0;
  if constexpr (T == FloatType::kE4m3) {
    for (; v + 2 <= V; v += 2) load_e4m3_pair(p + v * kLanes, out + v);
  }
  for (; v < V; ++v) out[v] = decode<T>(p + v * kLanes * element_bytes<T>());
}

// How many vectors of columns R rows of sums and their weights can keep in registers: a divisor of
// kVectors.
constexpr int vectors_for(int rows) {
  int v = kVectors;
  while (v > 1 && v * (rows + 1) > kStreamVectors) v /= 2;
  return v;
}
constexpr int kPrefetch = 4096;  // bytes ahead of the weights being read
constexpr int kStreamRows = 6;   // up to here weights are decoded on the way, beyond into L1

// sums[r][32] = x[r][k0..k1) * panel, R rows at once, weights decoded on the way.
template <FloatType T, int R>
__attribute__((noinline)) void stream_rows(const uint8_t* panel, const float* x, int64_t ldx,
                                           int64_t k0, int64_t k1, float* sums) {
  constexpr int V = vectors_for(R);
  for (int c = 0; c < kVectors; c += V) {
    F acc[R][V];
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) acc[r][v] = zero();
    }
    const uint8_t* w = panel + (k0 * kFloatPanel + c * kLanes) * element_bytes<T>();
    for (int64_t k = k0; k < k1; ++k, w += kFloatPanel * element_bytes<T>()) {
      if (c == 0) {
        for (int i = 0; i < kFloatPanel * element_bytes<T>(); i += 64)
          __builtin_prefetch(w + kPrefetch + i);
      }
      F b[V];
      decode_all<T, V>(w, b);
      for (int r = 0; r < R; ++r) {
        const F a = set1(x[r * ldx + k]);
        for (int v = 0; v < V; ++v) acc[r][v] = mul_add(a, b[v], acc[r][v]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) store(sums + r * kFloatPanel + (c + v) * kLanes, acc[r][v]);
    }
  }
}

// sums[r][32] += x[r][0..depth) * tile[depth][32] for R rows and kTileVectors vectors of columns.
template <int R>
__attribute__((noinline)) void tile_rows(const float* tile, const float* x, int64_t ldx,
                                         int64_t depth, float* sums) {
  F acc[R][kTileVectors];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kTileVectors; ++v) acc[r][v] = load(sums + r * kFloatPanel + v * kLanes);
  }
  for (int64_t k = 0; k < depth; ++k) {
    F b[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) b[v] = load(tile + k * kFloatPanel + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const F a = set1(x[r * ldx + k]);
      for (int v = 0; v < kTileVectors; ++v) acc[r][v] = mul_add(a, b[v], acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kTileVectors; ++v) store(sums + r * kFloatPanel + v * kLanes, acc[r][v]);
  }
}

inline void tile_all(const float* tile, const float* x, int64_t ldx, int64_t depth, int64_t rows,
                     float* sums) {
  for (int c = 0; c < kFloatPanel; c += kTileVectors * kLanes) {
    int64_t r = 0;
    for (; r + kTileRows <= rows; r += kTileRows)
      tile_rows<kTileRows>(tile + c, x + r * ldx, ldx, depth, sums + r * kFloatPanel + c);
    for (; r + 4 <= rows; r += 4)
      tile_rows<4>(tile + c, x + r * ldx, ldx, depth, sums + r * kFloatPanel + c);
    for (; r + 2 <= rows; r += 2)
      tile_rows<2>(tile + c, x + r * ldx, ldx, depth, sums + r * kFloatPanel + c);
    for (; r < rows; ++r)
      tile_rows<1>(tile + c, x + r * ldx, ldx, depth, sums + r * kFloatPanel + c);
  }
}

// The sums of columns [k0, k1) for all rows of x.
template <FloatType T>
inline void segment(const uint8_t* panel, const float* x, int64_t ldx, int64_t rows, int64_t k0,
                    int64_t k1, float* tile, float* sums) {
  switch (rows) {
    case 1:
      return stream_rows<T, 1>(panel, x, ldx, k0, k1, sums);
    case 2:
      return stream_rows<T, 2>(panel, x, ldx, k0, k1, sums);
    case 3:
      return stream_rows<T, 3>(panel, x, ldx, k0, k1, sums);
    case 4:
      return stream_rows<T, 4>(panel, x, ldx, k0, k1, sums);
    case 5:
      return stream_rows<T, 5>(panel, x, ldx, k0, k1, sums);
    case kStreamRows:
      return stream_rows<T, kStreamRows>(panel, x, ldx, k0, k1, sums);
    default:
      break;
  }
  memset(sums, 0, static_cast<size_t>(rows) * kFloatPanel * 4);
  for (int64_t k = k0; k < k1; k += kFloatDepth) {
    const int64_t depth = k1 - k < kFloatDepth ? k1 - k : kFloatDepth;
    const uint8_t* w = panel + k * kFloatPanel * element_bytes<T>();
    const float* decoded = tile;
    if constexpr (T == FloatType::kF32) {
      decoded = reinterpret_cast<const float*>(w);
    } else {
      for (int64_t i = 0; i < depth * kFloatPanel; i += 2 * kLanes) {
        F pair[2];
        decode_all<T, 2>(w + i * element_bytes<T>(), pair);
        store(tile + i, pair[0]);
        store(tile + i + kLanes, pair[1]);
      }
    }
    tile_all(decoded, x + k, ldx, depth, rows, sums);
  }
}

inline void segment_of(FloatType type, const uint8_t* panel, const float* x, int64_t ldx,
                       int64_t rows, int64_t k0, int64_t k1, float* tile, float* sums) {
  switch (type) {
    case FloatType::kF32:
      return segment<FloatType::kF32>(panel, x, ldx, rows, k0, k1, tile, sums);
    case FloatType::kF16:
      return segment<FloatType::kF16>(panel, x, ldx, rows, k0, k1, tile, sums);
    case FloatType::kBf16:
      return segment<FloatType::kBf16>(panel, x, ldx, rows, k0, k1, tile, sums);
    case FloatType::kE4m3:
      return segment<FloatType::kE4m3>(panel, x, ldx, rows, k0, k1, tile, sums);
    case FloatType::kE5m2:
      return segment<FloatType::kE5m2>(panel, x, ldx, rows, k0, k1, tile, sums);
  }
}

// One panel: totals [rows][32], then scale, bias and store.
inline void panel_of(const FloatWeights& w, const float* x, int64_t ldx, int64_t rows, int64_t p,
                     const FloatOutput& out, float* tile, float* sums, float* totals) {
  const uint8_t* panel = w.panels + p * w.panel_bytes;
  const int64_t n0 = p * kFloatPanel, width = w.n - n0 < kFloatPanel ? w.n - n0 : kFloatPanel;
  alignas(64) float factor[kFloatPanel];
  const float unit =
      w.type == FloatType::kE4m3 ? kE4m3Unit : 1.0f;  // of the decoded numbers, a power of two
  if (w.scale == FloatScale::kBlock) {
    memset(totals, 0, static_cast<size_t>(rows) * kFloatPanel * 4);
    const int64_t per_row = (w.k + w.block_k - 1) / w.block_k;
    int64_t row_at[kFloatPanel];
    for (int64_t i = 0; i < kFloatPanel; ++i) row_at[i] = (n0 + i) / w.block_n * per_row;
    for (int64_t b = 0; b < per_row; ++b) {
      const int64_t k0 = b * w.block_k, k1 = k0 + w.block_k < w.k ? k0 + w.block_k : w.k;
      segment_of(w.type, panel, x, ldx, rows, k0, k1, tile, sums);
      for (int64_t i = 0; i < kFloatPanel; ++i)
        factor[i] = i < width ? unit * w.scales[row_at[i] + b] : 0.0f;
      for (int64_t r = 0; r < rows; ++r) {
        for (int v = 0; v < kFloatPanel; v += kLanes) {
          float* t = totals + r * kFloatPanel + v;
          store(t, mul_add(load(sums + r * kFloatPanel + v), load(factor + v), load(t)));
        }
      }
    }
  } else {
    totals = sums;
    segment_of(w.type, panel, x, ldx, rows, 0, w.k, tile, sums);
    for (int64_t i = 0; i < kFloatPanel; ++i)
      factor[i] = w.scale == FloatScale::kRow && i < width ? unit * w.scales[n0 + i] : unit;
  }
  const bool scaled = w.scale == FloatScale::kRow || (w.scale == FloatScale::kNone && unit != 1.0f);
  for (int64_t r = 0; r < rows; ++r) {
    float* y = out.y + r * out.ldy + n0;
    const float* t = totals + r * kFloatPanel;
    for (int64_t i = 0; i < width; ++i) {
      const float value = scaled ? t[i] * factor[i] : t[i];
      y[i] = out.bias != nullptr ? value + out.bias[n0 + i] : value;
    }
  }
}

inline float* worker_space(const FloatWeights& w, const FloatInput& in, void* workspace, int worker,
                           int64_t align) {
  const int64_t rounded =
      in.round == FloatRound::kNone ? 0 : (in.m * w.k * 4 + align - 1) / align * align;
  const int64_t rows = (in.m * kFloatPanel * 4 + align - 1) / align * align;
  const int64_t per_worker = kFloatDepth * kFloatPanel * 4 + 2 * rows;
  return reinterpret_cast<float*>(static_cast<uint8_t*>(workspace) + rounded + worker * per_worker);
}

void gemm(const FloatWeights* w, const FloatInput* in, const FloatOutput* out, void* workspace,
          int worker, int n_workers) {
  if (in->m <= 0) return;
  const float* x = in->round == FloatRound::kNone ? in->x : static_cast<const float*>(workspace);
  const int64_t ldx = in->round == FloatRound::kNone ? in->ldx : w->k;
  float* tile = worker_space(*w, *in, workspace, worker, kFloatAlign);
  float* sums = tile + kFloatDepth * kFloatPanel;
  float* totals =
      sums + (in->m * kFloatPanel * 4 + kFloatAlign - 1) / kFloatAlign * kFloatAlign / 4;
  const int64_t begin = w->num_panels * worker / n_workers,
                end = w->num_panels * (worker + 1) / n_workers;
  for (int64_t p = begin; p < end; ++p) panel_of(*w, x, ldx, in->m, p, *out, tile, sums, totals);
}

// e4m3 of a value within +-448, as f32, to nearest even: three mantissa bits, and multiples of 2^-9
// below 2^-6.
inline float to_e4m3(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t rounded = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1)) & 0xfff00000u;
  float normal, absolute;
  memcpy(&normal, &rounded, 4);
  memcpy(&absolute, &magnitude, 4);
  const float small = (absolute + 24576.0f) - 24576.0f;  // 1.5 * 2^14: its last bit is 2^-9
  const float out = absolute < 0x1.0p-6f ? small : magnitude > 0x7f800000u ? value : normal;
  uint32_t result;
  memcpy(&result, &out, 4);
  result |= bits & 0x80000000u;
  memcpy(&normal, &result, 4);
  return normal;
}

inline void round_run(const float* x, float* out, int64_t count, float scale) {
  if (!(scale > 0.0f)) {  // all zero, or not finite: nothing to round to
    for (int64_t i = 0; i < count; ++i) out[i] = x[i];
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const float v = x[i] / scale;
    const float clamped = v > 448.0f ? 448.0f : v < -448.0f ? -448.0f : v;
    out[i] = to_e4m3(clamped) * scale;
  }
}

inline float largest(const float* x, int64_t count) {
  float lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int j = 0; j < 16; ++j) {
      const float a = __builtin_fabsf(x[i + j]);
      lanes[j] = a > lanes[j] ? a : lanes[j];
    }
  }
  for (; i < count; ++i)
    lanes[0] = __builtin_fabsf(x[i]) > lanes[0] ? __builtin_fabsf(x[i]) : lanes[0];
  float out = 0;
  for (int j = 0; j < 16; ++j) out = lanes[j] > out ? lanes[j] : out;
  return out;
}

void round_rows(const FloatWeights* w, const FloatInput* in, void* workspace, int worker,
                int n_workers) {
  if (in->round == FloatRound::kNone) return;
  auto* out = static_cast<float*>(workspace);
  const int64_t begin = in->m * worker / n_workers, end = in->m * (worker + 1) / n_workers;
  for (int64_t m = begin; m < end; ++m) {
    const float* x = in->x + m * in->ldx;
    float* to = out + m * w->k;
    if (in->round == FloatRound::kStatic) {
      round_run(x, to, w->k, in->static_scale);
      continue;
    }
    const int64_t size = in->round == FloatRound::kToken ? w->k : in->group_size;
    for (int64_t k = 0; k < w->k; k += size) {
      const int64_t count = w->k - k < size ? w->k - k : size;
      round_run(x + k, to + k, count, largest(x + k, count) / 448.0f);
    }
  }
}

const FloatKernels kKernels = {PLUQ_FLOAT_ISA_NAME, &round_rows, &gemm};
