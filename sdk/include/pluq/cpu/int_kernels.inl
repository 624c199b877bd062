// SPDX-License-Identifier: Apache-2.0
// The integer GEMM, written once against an ISA's vocabulary (vec_<isa>.h) and included in that
// ISA's namespace by int_gemm_<isa>.inl. Order of work: rows in runs of 768 -> panel -> group ->
// row block; a thread owns a contiguous run of panels, so it reads one stream. int_types.h has the
// formula and the packed form.
//
// Activations (workspace, private to the ISA): for each group, for each row block of R <= kTileRows
// rows,
//   codes [padded_k / 4][R] x 4 bytes, then R f32 scales, then R int32 sums of the codes.
// Without a u8 x s8 -> s32 instruction, 8-bit weights do not fit saturating int16 sums: there,
// codes are widened to pairs of int16, (a0, a2) and (a1, a3), which meet the even and odd bytes of
// a weight dword: [padded_k / 4][R] x 8 bytes.

#define PLUQ_NOINLINE __attribute__((noinline))
#define PLUQ_INLINE inline __attribute__((always_inline))

constexpr int kPanelVectors = kIntPanel / kLanes;
constexpr int kChunk = 512;  // columns quantized at a time
constexpr int kPrefetch =
    4096;  // bytes ahead of the weights being read, when few rows make memory the limit
// Rows of a 4-bit tile without a dot product instruction: 3 x 2 sums of int16 and 3 x 2 of int32,
// two weights, an activation and a product fill 16 registers.
constexpr int kNibbleRows = 3;

// How one call's activations and scratch lie in the workspace.
struct Layout {
  int limbs;       // 1 or 3 rows per row of x
  int code_bytes;  // 1 or 2 per code
  int64_t rows;    // limbs counted
  uint8_t* codes;
  float* post;         // [M] factor of the whole row (NaN: the row is not finite)
  int32_t* row_zeros;  // [M]
  uint8_t* workers;
  int64_t worker_bytes;
  int64_t tile_rows;
};

PLUQ_INLINE int64_t align64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

inline Layout make_layout(const IntWeights& w, const IntInput& in, void* workspace) {
  Layout l;
  l.limbs = in.mode == IntActivation::kExact ? 3 : 1;
  l.code_bytes = (!kHasDot && w.code_bits == 8) ? 2 : 1;
  l.rows = in.m * l.limbs;
  l.tile_rows = l.rows < kIntSuperRows ? l.rows : kIntSuperRows;
  l.codes = static_cast<uint8_t*>(workspace);
  uint8_t* at =
      l.codes +
      align64(l.rows * (static_cast<int64_t>(w.padded_begin[w.num_groups]) * l.code_bytes +
                        8 * static_cast<int64_t>(w.num_groups)));
  l.post = reinterpret_cast<float*>(at);
  l.row_zeros = reinterpret_cast<int32_t*>(at + 4 * in.m);
  l.workers = at + align64(8 * in.m);
  l.worker_bytes = align64(l.tile_rows * kIntPanel * 4 + kIntScratchRows * kIntPanel * 4 +
                           kIntUnpackSteps * 256);
  return l;
}

// Bytes of one row in one group.
PLUQ_INLINE int64_t row_bytes(const IntWeights& w, const Layout& l, int32_t g) {
  return static_cast<int64_t>(w.padded_begin[g + 1] - w.padded_begin[g]) * l.code_bytes + 8;
}

PLUQ_INLINE uint8_t* group_codes(const IntWeights& w, const Layout& l, int32_t g) {
  return l.codes + l.rows * (static_cast<int64_t>(w.padded_begin[g]) * l.code_bytes +
                             8 * static_cast<int64_t>(g));
}

// Row blocks: `total` rows of a run, split as evenly as the tile allows (16 = 8 + 8 rather than 12
// + 4).
struct Blocks {
  int64_t count, base, larger;  // the first `larger` blocks have base + 1 rows
};
PLUQ_INLINE Blocks make_blocks(const IntWeights& w, int64_t total) {
  const int64_t tile = !kHasDot && w.code_bits == 4 ? kNibbleRows : kTileRows;
  const int64_t count = (total + tile - 1) / tile;
  return Blocks{count, total / count, total % count};
}

// Where row v (limbs counted) keeps its codes of a group: block of `rows` rows starting at `first`,
// place `index` in it.
struct Place {
  int64_t first;
  int rows, index;
};
inline Place place_of(const IntWeights& w, const Layout& l, int64_t v) {
  const int64_t run = v / kIntSuperRows * kIntSuperRows;
  const int64_t total = l.rows - run < kIntSuperRows ? l.rows - run : kIntSuperRows;
  const Blocks b = make_blocks(w, total);
  const int64_t at = v - run, in_larger = b.larger * (b.base + 1);
  Place p;
  if (at < in_larger) {
    p.rows = static_cast<int>(b.base + 1);
    p.index = static_cast<int>(at % (b.base + 1));
  } else {
    p.rows = static_cast<int>(b.base);
    p.index = static_cast<int>((at - in_larger) % b.base);
  }
  p.first = v - p.index;
  return p;
}

// ---- phase 1: activations ----

struct Range {
  float low, high;  // min(x, 0), max(x, 0)
  bool finite;
};

inline Range row_range(const float* x, int64_t k) {
  VF low = set1_f32(0.0f), high = set1_f32(0.0f), probe = set1_f32(0.0f);
  const VF none = set1_f32(0.0f);
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    const VF v = load_f32(x + i);
    low = min(v, low);
    high = max(v, high);
    probe = mul_add(v, none, probe);  // 0, or NaN once an Inf or a NaN was met
  }
  float lows[kLanes], highs[kLanes], probes[kLanes];
  store_f32(lows, low);
  store_f32(highs, high);
  store_f32(probes, probe);
  Range r{0.0f, 0.0f, true};
  for (int j = 0; j < kLanes; ++j) {
    r.low = lows[j] < r.low ? lows[j] : r.low;
    r.high = highs[j] > r.high ? highs[j] : r.high;
    r.finite = r.finite && probes[j] == 0.0f;
  }
  for (; i < k; ++i) {
    r.low = x[i] < r.low ? x[i] : r.low;
    r.high = x[i] > r.high ? x[i] : r.high;
    r.finite = r.finite && x[i] * 0.0f == 0.0f;
  }
  return r;
}

PLUQ_INLINE float larger(float a, float b) { return a > b ? a : b; }

// Power of two as float, -126 <= e <= 127.
PLUQ_INLINE float power_of_two(int e) {
  const uint32_t bits = static_cast<uint32_t>(e + 127) << 23;
  float r;
  memcpy(&r, &bits, 4);
  return r;
}

// The exact mode's p for a group: |x| * 2^p <= 8355711 = 127 * (65536 + 256 + 1), the largest value
// of three balanced digits; scaling by a power of two loses nothing. p <= 100 keeps 2^-p a normal
// number; such a group lies 2^-40 below its row's maximum, because rows are normalised first.
inline int fixed_point_exponent(float amax) {
  uint32_t bits;
  memcpy(&bits, &amax, 4);
  const int exponent = static_cast<int>(bits >> 23) - 126;   // amax = f * 2^exponent, 1/2 <= f < 1
  const uint32_t mantissa = (bits & 0x7fffffu) | 0x800000u;  // f * 2^24
  const int p = 23 - exponent - (mantissa > 2u * 8355711u ? 1 : 0);
  return p > 100 ? 100 : p;
}

// What a row needs while it is quantized.
struct RowPlan {
  float factor;  // x is multiplied by it first (a power of two)
  float scale;   // per-row modes: value = (code - zero) * scale
  int32_t zero;
  bool dead;  // all codes are zero
};

// Writes `count` codes (a multiple of 4) of one row and limb; q [kChunk] holds values in [-128,
// 127].
PLUQ_INLINE void emit(const int32_t* q, int count, int code_bytes, uint8_t* block, const Place& p,
                      int64_t first_k4) {
  const int64_t dword = 4 * code_bytes, step = dword * p.rows;
  uint8_t* at = block + (first_k4 * p.rows + p.index) * dword;
  uint32_t words[2 * kLanes / 4];
  for (int i = 0; i < count; i += kLanes) {
    const int fours = (count - i < kLanes ? count - i : kLanes) / 4;
#if !PLUQ_INT_HAS_DOT
    if (code_bytes == 2) {
      low_words(q + i, words);
      for (int j = 0; j < fours; ++j, at += step) memcpy(at, words + 2 * j, 8);
      continue;
    }
#endif
    low_bytes(q + i, words);
    for (int j = 0; j < fours; ++j, at += step) memcpy(at, words + j, 4);
  }
}

// values[0..count) -> q: rne(clamp(v * factor * inverse)) or, with divide, rne(clamp(v / scale)),
// plus zero. Clamping to whole numbers before rounding equals clamping after it, and keeps the
// conversion in range.
PLUQ_INLINE void round_values(const float* values, int count, float factor, bool divide,
                              float scale, int32_t zero, float low, float high, int32_t* q) {
  const VF s = set1_f32(scale), f = set1_f32(factor), lo = set1_f32(low), hi = set1_f32(high);
  const VI z = set1_32(zero);
  for (int i = 0; i < count; i += kLanes) {
    const VF v = mul(load_f32(values + i), f);
    const VF r = divide ? div(v, s) : mul(v, s);
    store(q + i, add32(round_i32(min(max(r, lo), hi)), z));
  }
}

inline void gather(const IntWeights& w, const float* x, int32_t begin, int count, float* out) {
  if (w.perm) {
    for (int i = 0; i < count; ++i) out[i] = x[w.perm[begin + i]];
  } else {
    memcpy(out, x + begin, static_cast<size_t>(count) * 4);
  }
  for (int i = count; i % 16 != 0; ++i) out[i] = 0.0f;
}

// Quantizes one row in one group.
inline void quantize_group(const IntWeights& w, const IntInput& in, const Layout& l,
                           const RowPlan& plan, int64_t m, int32_t g) {
  alignas(64) float values[kChunk];
  alignas(64) int32_t q[kChunk];
  alignas(64) int32_t digit[kChunk];
  const int32_t begin = w.group_begin[g], length = w.group_begin[g + 1] - begin;
  const int32_t padded = w.padded_begin[g + 1] - w.padded_begin[g];
  const float* x = in.x ? in.x + m * in.ldx : nullptr;
  const bool divide = in.mode == IntActivation::kToken || in.mode == IntActivation::kTokenAsym ||
                      in.mode == IntActivation::kStatic;
  float scale = plan.scale, multiplier = plan.scale, low = -128.0f - plan.zero,
        high = 127.0f - plan.zero;
  bool dead = plan.dead;
  if (!dead && (in.mode == IntActivation::kGroup || in.mode == IntActivation::kExact)) {
    float amax = 0.0f;
    for (int32_t at = 0; at < length; at += kChunk) {
      const int count = length - at < kChunk ? length - at : kChunk;
      gather(w, x, begin + at, count, values);
      VF v = set1_f32(0.0f);
      const VF none = set1_f32(0.0f);
      for (int i = 0; i < count; i += kLanes) {
        const VF a = load_f32(values + i);
        v = max(v, max(a, add(none, mul(a, set1_f32(-1.0f)))));
      }
      float lanes[kLanes];
      store_f32(lanes, v);
      for (int j = 0; j < kLanes; ++j) amax = larger(amax, lanes[j]);
    }
    amax *= plan.factor;
    if (in.mode == IntActivation::kGroup) {
      dead = amax < 1e-30f;  // nothing beside the row's own maximum, which is at least 2^-60 here
      scale = amax / 127.0f;
      multiplier = dead ? 0.0f : 127.0f / amax;
    } else {
      dead = amax == 0.0f;
      const int p = dead ? 0 : fixed_point_exponent(amax);
      scale = power_of_two(-p);
      multiplier = power_of_two(p);
      low = -8355711.0f;
      high = 8355711.0f;
    }
  }
  uint8_t* blocks[3];
  Place places[3];
  int32_t sums[3] = {0, 0, 0};
  for (int limb = 0; limb < l.limbs; ++limb) {
    places[limb] = place_of(w, l, m * l.limbs + limb);
    blocks[limb] = group_codes(w, l, g) + places[limb].first * row_bytes(w, l, g);
  }
  for (int32_t at = 0; at < padded; at += kChunk) {
    const int room = padded - at < kChunk ? padded - at : kChunk;
    const int count = length - at < room ? length - at : room;
    if (dead) {
      memset(q, 0, static_cast<size_t>(room) * 4);
    } else if (in.mode == IntActivation::kCodes) {
      const int8_t* codes = in.codes + m * in.ld_codes;
      for (int i = 0; i < count; ++i)
        q[i] = codes[w.perm ? w.perm[begin + at + i] : begin + at + i];
    } else {
      gather(w, x, begin + at, count, values);
      round_values(values, count, plan.factor, divide, divide ? scale : multiplier, plan.zero, low,
                   high, q);
    }
    for (int i = count; i < room; ++i) q[i] = 0;
    for (int limb = l.limbs - 1; limb >= 0; --limb) {  // lowest digit first: limb 0 is the highest
      const int32_t* out = q;
      if (limb > 0) {
        for (int i = 0; i < room; ++i) {
          const int32_t d = static_cast<int32_t>((static_cast<uint32_t>(q[i]) + 128u) & 255u) - 128;
          digit[i] = d;
          q[i] = (q[i] - d) / 256;
        }
        out = digit;
      }
      int32_t sum = 0;
      for (int i = 0; i < room; ++i) sum += out[i];
      sums[limb] += sum;
      emit(out, room, l.code_bytes, blocks[limb], places[limb], at / 4);
    }
  }
  for (int limb = 0; limb < l.limbs; ++limb) {
    const Place& p = places[limb];
    uint8_t* tail = blocks[limb] + static_cast<int64_t>(padded) * l.code_bytes * p.rows;
    const float digit_scale = dead           ? 0.0f
                              : l.limbs == 1 ? scale
                              : limb == 0    ? scale * 65536.0f
                              : limb == 1    ? scale * 256.0f
                                             : scale;
    memcpy(tail + 4 * p.index, &digit_scale, 4);
    memcpy(tail + 4 * p.rows + 4 * p.index, &sums[limb], 4);
  }
}

PLUQ_INLINE bool has_zero_points(const IntInput& in) {
  return in.mode == IntActivation::kTokenAsym ||
         (in.mode == IntActivation::kStatic && in.static_zero != 0) ||
         (in.mode == IntActivation::kCodes && in.code_zeros);
}

// Decides a row's scale and its factor after the product.
inline RowPlan plan_row(const IntWeights& w, const IntInput& in, int64_t m, float* post) {
  RowPlan plan{1.0f, 0.0f, 0, false};
  *post = 1.0f;
  if (in.mode == IntActivation::kCodes) {
    plan.scale = in.code_scales[in.one_scale ? 0 : m];
    plan.zero = in.code_zeros ? in.code_zeros[in.one_scale ? 0 : m] : 0;
  } else {
    const Range range = row_range(in.x + m * in.ldx, w.k);
    const float amax = larger(range.high, -range.low);
    if (!range.finite) {
      plan.dead = true;
      *post = __builtin_nanf("");
    } else if (in.mode == IntActivation::kStatic) {
      plan.scale = in.static_scale;
      plan.zero = in.static_zero;
    } else if (in.mode == IntActivation::kToken) {
      plan.scale = amax / in.divisor;
      plan.dead = !(plan.scale > 0.0f);
    } else if (in.mode == IntActivation::kTokenAsym) {
      // Halves first: high - low may exceed the largest float.
      plan.scale = (range.high * 0.5f - range.low * 0.5f) / 127.5f;
      plan.dead = !(plan.scale > 0.0f);
      if (!plan.dead) {
        const float zero = -128.0f - range.low / plan.scale;
        plan.zero = static_cast<int32_t>(__builtin_rintf(zero < -128.0f  ? -128.0f
                                                         : zero > 127.0f ? 127.0f
                                                                         : zero));
      }
    } else if (amax == 0.0f) {
      plan.dead = true;
    } else if (amax < 0x1p-60f) {  // keeps every scale a normal number; undone exactly at the end
      plan.factor = 0x1p80f;
      *post = 0x1p-80f;
    }
  }
  if (has_zero_points(in) && !w.has_sums)
    *post = __builtin_nanf("");  // cannot be right: say so, never be silently wrong
  return plan;
}

inline void quantize(const IntWeights* weights, const IntInput* input, void* workspace, int worker,
                     int n_workers) {
  const IntWeights& w = *weights;
  const IntInput& in = *input;
  if (in.m <= 0) return;
  const Layout l = make_layout(w, in, workspace);
  // Many rows: each worker has its own. Few: every worker looks at all rows and quantizes its share
  // of groups.
  const bool by_rows = in.m >= n_workers;
  const int64_t row_begin = by_rows ? in.m * worker / n_workers : 0;
  const int64_t row_end = by_rows ? in.m * (worker + 1) / n_workers : in.m;
  const int64_t groups = w.num_groups;
  const int32_t group_begin = by_rows ? 0 : static_cast<int32_t>(groups * worker / n_workers);
  const int32_t group_end =
      static_cast<int32_t>(by_rows ? groups : groups * (worker + 1) / n_workers);
  for (int64_t m = row_begin; m < row_end; ++m) {
    float post;
    const RowPlan plan = plan_row(w, in, m, &post);
    if (by_rows || worker == 0) {
      l.post[m] = post;
      l.row_zeros[m] = plan.dead ? 0 : plan.zero;
    }
    for (int32_t g = group_begin; g < group_end; ++g) quantize_group(w, in, l, plan, m, g);
  }
}

// ---- phase 2: dot products of one group: out[R][32] (row stride 32), columns of NV vectors ----

#define PLUQ_UNROLL _Pragma("GCC unroll 16")
// Loads stay on their side of it: hoisted weights would push accumulators to the stack.
#define PLUQ_NO_HOIST() asm volatile("" ::: "memory")

// Instructions with a u8 x s8 -> s32 dot product. kBits 4: a step is 128 bytes of nibbles; 8: two
// rows of 128 bytes. Few rows leave registers for two sums per output, which hides the
// instruction's latency.
#if PLUQ_INT_HAS_DOT

template <int kBits, int R, int NV>
struct Dot {
  static PLUQ_NOINLINE void run(const uint8_t* w, int64_t steps, const uint8_t* a, int32_t* out) {
    constexpr int kSums = R <= 3 ? 2 : 1;
    VI acc[kSums][R][NV];
    PLUQ_UNROLL for (int s = 0; s < kSums; ++s) PLUQ_UNROLL for (int r = 0; r < R; ++r)
        PLUQ_UNROLL for (int v = 0; v < NV; ++v) acc[s][r][v] = zero();
    const VI mask = set1_8(15);
    for (int64_t step = 0; step < steps; ++step) {
      if (R <= 4) {
        for (int i = 0; i < kBits * 32; i += 64) __builtin_prefetch(w + kPrefetch + i);
      }
      VI low[NV], high[NV];
      PLUQ_UNROLL for (int v = 0; v < NV; ++v) {
        const VI raw = load(w + v * 4 * kLanes);
        if (kBits == 4) {
          low[v] = bit_and(raw, mask);
          high[v] = bit_and(shift_right16_4(raw), mask);
        } else {
          low[v] = raw;
          high[v] = load(w + 128 + v * 4 * kLanes);
        }
      }
      PLUQ_UNROLL for (int r = 0; r < R; ++r) PLUQ_UNROLL for (int v = 0; v < NV; ++v)
          acc[0][r][v] = dot_broadcast(acc[0][r][v], low[v], a + 4 * r);
      PLUQ_UNROLL for (int r = 0; r < R; ++r) PLUQ_UNROLL for (int v = 0; v < NV; ++v)
          acc[kSums - 1][r][v] = dot_broadcast(acc[kSums - 1][r][v], high[v], a + 4 * R + 4 * r);
      w += kBits * 32;
      a += 8 * R;
    }
    PLUQ_UNROLL for (int r = 0; r < R; ++r) PLUQ_UNROLL for (int v = 0; v < NV; ++v) {
      const VI sum = kSums == 2 ? add32(acc[0][r][v], acc[kSums - 1][r][v]) : acc[0][r][v];
      store(out + r * kIntPanel + v * kLanes, sum);
    }
  }
};

#else

// 8 bits: even and odd bytes as int16 times int16 pairs of codes, summed in int32: always exact.
template <int R, int NV>
struct DotBytes {
  static PLUQ_NOINLINE void run(const uint8_t* w, int64_t steps, const uint8_t* a, int32_t* out) {
    const VI mask = set1_16(255);
    VI acc[R][NV];
    PLUQ_UNROLL for (int r = 0; r < R; ++r) PLUQ_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] =
        zero();
    for (int64_t k4 = 0; k4 < 2 * steps; ++k4) {
      if (R <= 2) {
        __builtin_prefetch(w + kPrefetch);
        __builtin_prefetch(w + kPrefetch + 64);
      }
      PLUQ_UNROLL for (int odd = 0; odd < 2; ++odd) {
        PLUQ_UNROLL for (int v = 0; v < NV; v += 2) {
          PLUQ_NO_HOIST();
          VI codes[2];
          PLUQ_UNROLL for (int j = 0; j < 2; ++j) {
            const VI raw = load(w + (v + j) * 4 * kLanes);
            codes[j] = odd ? shift_right16_8(raw) : bit_and(raw, mask);
          }
          PLUQ_UNROLL for (int r = 0; r < R; ++r)
              mac2_words(acc[r][v], acc[r][v + 1], codes[0], codes[1], a + 8 * r + 4 * odd);
        }
      }
      w += 128;
      a += 8 * R;
    }
    PLUQ_UNROLL for (int r = 0; r < R; ++r) PLUQ_UNROLL for (int v = 0; v < NV; ++v)
        store(out + r * kIntPanel + v * kLanes, acc[r][v]);
  }
};

#endif

// One panel's group, as the tiles read it.
struct GroupTask {
  const IntWeights* w;
  const uint8_t* codes;   // packed steps, or unpacked ones
  const uint8_t* meta;    // scales, zeros, sums as packed
  int64_t steps, padded;  // columns, in steps and counted
  int32_t length;         // columns before padding
  bool asym;              // activations have zero points
  int code_bytes;
  int32_t* dots;  // scratch [kIntScratchRows][32]
  // Filled where kHasDot is false and codes have 4 bits:
  alignas(64) float scales[kIntPanel];
  alignas(64) int32_t zeros[kIntPanel];  // integer zeros, or offsets as float bits
};

// Runs `count` row blocks of one group: block: the first one's activations, row_zeros [rows], c
// [rows][32].
using RunFn = void (*)(const GroupTask& t, int64_t count, const uint8_t* block,
                       const int32_t* row_zeros, float* c);

PLUQ_INLINE VF load_scale(IntScaleType type, const uint8_t* at, int column) {
  if (type == IntScaleType::kF16) return load_f16(at + 2 * column);
  if (type == IntScaleType::kBf16) return load_bf16(at + 2 * column);
  return load_f32(at + 4 * column);
}

#if !PLUQ_INT_HAS_DOT

// One group's nibbles as bytes: low nibbles of a step, then high nibbles.
inline void unpack_nibbles(const uint8_t* w, int64_t steps, uint8_t* out) {
  const VI mask = set1_8(15);
  for (int64_t step = 0; step < steps; ++step, w += 128, out += 256) {
    for (int i = 0; i < 128; i += 4 * kLanes) {
      const VI raw = load(w + i);
      store(out + i, bit_and(raw, mask));
      store(out + 128 + i, bit_and(shift_right16_4(raw), mask));
    }
  }
}

inline void convert_meta(GroupTask* t) {
  const uint8_t* zeros = t->meta + t->w->scale_bytes;
  for (int i = 0; i < kIntPanel; i += kLanes) {
    store_f32(t->scales + i, load_scale(t->w->scale_type, t->meta, i));
    if (t->w->zero_kind == IntZeroKind::kInteger) store(t->zeros + i, load_i16(zeros + 2 * i));
    if (t->w->zero_kind == IntZeroKind::kOffset) store(t->zeros + i, load(zeros + 4 * i));
  }
}

// Without a u8 x s8 -> s32 instruction, 4 bits: pairs summed in int16. 8 pair sums of 4-bit codes
// cannot overflow (8 * 2 * 15 * 128 = 30720), so every 4 steps the int16 sums are widened into
// int32 sums, which start at the zero points' share and never leave the registers before the fold.
// kUnpacked: a step is 256 bytes, low nibbles then high ones.
template <bool kUnpacked, IntZeroKind Z, int R, int NV>
PLUQ_INLINE void nibble_tile(const GroupTask& t, int column, const uint8_t* block,
                             const int32_t* row_zeros, float* c) {
  const uint8_t* tail = block + t.padded * R;
  const uint8_t* weight_sums = t.meta + t.w->scale_bytes + t.w->zero_bytes;
  VI sums[R][NV];
  PLUQ_UNROLL for (int r = 0; r < R; ++r) {
    int32_t sum;
    memcpy(&sum, tail + 4 * R + 4 * r, 4);
    const VI by =
        set1_32(Z == IntZeroKind::kConstant
                    ? static_cast<int32_t>(0u - static_cast<uint32_t>(t.w->zero_constant) *
                                                    static_cast<uint32_t>(sum))
                    : -sum);
    PLUQ_UNROLL for (int v = 0; v < NV; ++v) {
      sums[r][v] = Z == IntZeroKind::kConstant  ? by
                   : Z == IntZeroKind::kInteger ? mul32(load(t.zeros + column + v * kLanes), by)
                                                : zero();
      if (t.asym) {
        const VI share =
            mul32(load(weight_sums + 4 * (column + v * kLanes)), set1_32(row_zeros[r]));
        sums[r][v] = sub32(sums[r][v], share);
      }
    }
  }
  const VI mask = set1_8(15);
  const uint8_t* w = t.codes + 4 * column;
  const uint8_t* a = block;
  for (int64_t done = 0; done < t.steps; done += 4) {
    const int64_t left = t.steps - done < 4 ? t.steps - done : 4;
    VI acc[R][NV];
    PLUQ_UNROLL for (int r = 0; r < R; ++r) PLUQ_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] =
        zero();
    for (int64_t step = 0; step < left; ++step) {
      if (!kUnpacked && column == 0) {
        __builtin_prefetch(w + kPrefetch);
        __builtin_prefetch(w + kPrefetch + 64);
      }
      PLUQ_UNROLL for (int half = 0; half < 2; ++half) {
        PLUQ_UNROLL for (int v = 0; v < NV; v += 2) {
          PLUQ_NO_HOIST();
          VI codes[2];
          PLUQ_UNROLL for (int j = 0; j < 2; ++j) {
            if (kUnpacked) {
              codes[j] = load(w + half * 128 + (v + j) * 4 * kLanes);
            } else {
              const VI raw = load(w + (v + j) * 4 * kLanes);
              codes[j] = bit_and(half ? shift_right16_4(raw) : raw, mask);
            }
          }
          PLUQ_UNROLL for (int r = 0; r < R; ++r)
              mac2_nibbles(acc[r][v], acc[r][v + 1], codes[0], codes[1], a + 4 * r);
        }
        a += 4 * R;
      }
      w += kUnpacked ? 256 : 128;
    }
    PLUQ_UNROLL for (int r = 0; r < R; ++r) PLUQ_UNROLL for (int v = 0; v < NV; ++v) sums[r][v] =
        add32(sums[r][v], widen_pairs(acc[r][v]));
  }
  PLUQ_UNROLL for (int r = 0; r < R; ++r) {
    float scale;
    int32_t sum;
    memcpy(&scale, tail + 4 * r, 4);
    memcpy(&sum, tail + 4 * R + 4 * r, 4);
    PLUQ_UNROLL for (int v = 0; v < NV; ++v) {
      const int n = column + v * kLanes;
      float* at = c + r * kIntPanel + n;
      VF value =
          mul_add(to_f32(sums[r][v]), mul(load_f32(t.scales + n), set1_f32(scale)), load_f32(at));
      if (Z == IntZeroKind::kOffset) {
        const int32_t centred = t.asym ? sum - row_zeros[r] * t.length : sum;
        const VF offset = load_f32(reinterpret_cast<const float*>(t.zeros) + n);
        value = mul_add(offset, set1_f32(scale * static_cast<float>(centred)), value);
      }
      store_f32(at, value);
    }
  }
}

template <bool kUnpacked, IntZeroKind Z, int R>
PLUQ_NOINLINE void run_nibbles(const GroupTask& t, int64_t count, const uint8_t* block,
                               const int32_t* row_zeros, float* c) {
  constexpr int NV = R == 1 ? 4 : 2;
  for (int64_t b = 0; b < count; ++b) {
    for (int column = 0; column < kIntPanel; column += NV * kLanes)
      nibble_tile<kUnpacked, Z, R, NV>(t, column, block, row_zeros, c);
    block += R * (t.padded + 8);
    row_zeros += R;
    c += R * kIntPanel;
  }
}

template <bool kUnpacked, IntZeroKind Z>
inline RunFn nibbles_for(int rows) {
  if (rows == 1) return &run_nibbles<kUnpacked, Z, 1>;
  return rows == 2 ? &run_nibbles<kUnpacked, Z, 2> : &run_nibbles<kUnpacked, Z, 3>;
}

template <bool kUnpacked>
inline RunFn nibbles_for(IntZeroKind zeros, int rows) {
  if (zeros == IntZeroKind::kConstant) return nibbles_for<kUnpacked, IntZeroKind::kConstant>(rows);
  if (zeros == IntZeroKind::kInteger) return nibbles_for<kUnpacked, IntZeroKind::kInteger>(rows);
  return nibbles_for<kUnpacked, IntZeroKind::kOffset>(rows);
}

#endif

// c[rows][32] += (dot - zero * sum) * weight scale * activation scale. `tail`: the block's scales
// and sums; row_zeros: zero points of the activations.
template <IntZeroKind Z>
inline void fold(const GroupTask& t, const uint8_t* tail, const int32_t* row_zeros, int rows,
                 float* c) {
  const IntWeights& w = *t.w;
  const uint8_t* zeros = t.meta + w.scale_bytes;
  const uint8_t* weight_sums = zeros + w.zero_bytes;
  for (int column = 0; column < kIntPanel; column += kLanes) {
    const VF weight_scale = load_scale(w.scale_type, t.meta, column);
    for (int r = 0; r < rows; ++r) {
      float scale;
      int32_t sum;
      memcpy(&scale, tail + 4 * r, 4);
      memcpy(&sum, tail + 4 * rows + 4 * r, 4);
      VI d = load(t.dots + r * kIntPanel + column);
      if (Z == IntZeroKind::kConstant)
        d = sub32(d, set1_32(static_cast<int32_t>(static_cast<uint32_t>(w.zero_constant) *
                                                  static_cast<uint32_t>(sum))));
      if (Z == IntZeroKind::kInteger)
        d = sub32(d, mul32(load_i16(zeros + 2 * column), set1_32(sum)));
      if (t.asym) d = sub32(d, mul32(load(weight_sums + 4 * column), set1_32(row_zeros[r])));
      float* at = c + r * kIntPanel + column;
      VF value = mul_add(to_f32(d), mul(weight_scale, set1_f32(scale)), load_f32(at));
      if (Z == IntZeroKind::kOffset) {
        const int32_t centred = t.asym ? sum - row_zeros[r] * t.length : sum;
        value = mul_add(load_f32(zeros + 4 * column), set1_f32(scale * static_cast<float>(centred)),
                        value);
      }
      store_f32(at, value);
    }
  }
}

// Products of one block through `dots`, then the fold. kBits: of a code.
template <int kBits, int R>
PLUQ_NOINLINE void run_dots(const GroupTask& t, int64_t count, const uint8_t* block,
                            const int32_t* row_zeros, float* c) {
  for (int64_t b = 0; b < count; ++b) {
#if PLUQ_INT_HAS_DOT
    Dot<kBits, R, kPanelVectors>::run(t.codes, t.steps, block, t.dots);
#else
    constexpr int NV = R <= 2 ? 4 : 2;
    for (int v = 0; v < kPanelVectors; v += NV)
      DotBytes<R, NV>::run(t.codes + v * 4 * kLanes, t.steps, block, t.dots + v * kLanes);
#endif
    const uint8_t* tail = block + t.padded * t.code_bytes * R;
    if (t.w->zero_kind == IntZeroKind::kConstant) {
      fold<IntZeroKind::kConstant>(t, tail, row_zeros, R, c);
    } else if (t.w->zero_kind == IntZeroKind::kInteger) {
      fold<IntZeroKind::kInteger>(t, tail, row_zeros, R, c);
    } else {
      fold<IntZeroKind::kOffset>(t, tail, row_zeros, R, c);
    }
    block = tail + 8 * R;
    row_zeros += R;
    c += R * kIntPanel;
  }
}

template <int kBits>
inline RunFn dots_for(int rows) {
  switch (rows) {
    case 1:
      return &run_dots<kBits, 1>;
    case 2:
      return &run_dots<kBits, 2>;
    case 3:
      return &run_dots<kBits, 3>;
    case 4:
      return &run_dots<kBits, 4>;
#if PLUQ_INT_HAS_DOT
    case 5:
      return &run_dots<kBits, 5>;
    case 6:
      return &run_dots<kBits, 6>;
    case 7:
      return &run_dots<kBits, 7>;
    case 8:
      return &run_dots<kBits, 8>;
    case 9:
      return &run_dots<kBits, 9>;
    case 10:
      return &run_dots<kBits, 10>;
    case 11:
      return &run_dots<kBits, 11>;
#endif
    default:
      return &run_dots<kBits, kTileRows>;
  }
}

inline RunFn run_for(const IntWeights& w, bool unpacked, int rows) {
#if PLUQ_INT_HAS_DOT
  (void)unpacked;
  return w.code_bits == 8 ? dots_for<8>(rows) : dots_for<4>(rows);
#else
  if (w.code_bits == 8) return dots_for<8>(rows);
  return unpacked ? nibbles_for<true>(w.zero_kind, rows) : nibbles_for<false>(w.zero_kind, rows);
#endif
}

// One panel's tile of sums [rows][32] -> y. The last panel may have fewer than 32 columns.
PLUQ_NOINLINE void write_panel(const IntWeights& w, const IntOutput& out, const Layout& l,
                               const float* c, int64_t first_row, int64_t rows, int64_t panel) {
  const int64_t n0 = panel * kIntPanel;
  const int columns = static_cast<int>(w.n - n0 < kIntPanel ? w.n - n0 : kIntPanel);
  for (int64_t r = 0; r < rows; r += l.limbs) {
    const int64_t m = (first_row + r) / l.limbs;
    const VF post = set1_f32(l.post[m]);
    alignas(64) float line[kIntPanel];
    for (int column = 0; column < kIntPanel; column += kLanes) {
      const float* at = c + r * kIntPanel + column;
      VF value = load_f32(at);
      if (l.limbs == 3)
        value = add(add(value, load_f32(at + kIntPanel)), load_f32(at + 2 * kIntPanel));
      store_f32(line + column, mul(value, post));
    }
    if (out.bias) {
      for (int j = 0; j < columns; ++j) line[j] += out.bias[n0 + j];
    }
    memcpy(out.y + m * out.ldy + n0, line, static_cast<size_t>(columns) * 4);
  }
}

inline void gemm(const IntWeights* weights, const IntInput* input, const IntOutput* output,
                 void* workspace, int worker, int n_workers) {
  const IntWeights& w = *weights;
  if (input->m <= 0) return;
  const Layout l = make_layout(w, *input, workspace);
  uint8_t* own = l.workers + worker * l.worker_bytes;
  float* c = reinterpret_cast<float*>(own);  // [tile_rows][32]
  GroupTask t;
  t.w = &w;
  t.asym = w.has_sums && has_zero_points(*input);
  t.code_bytes = l.code_bytes;
  t.dots = reinterpret_cast<int32_t*>(own + l.tile_rows * kIntPanel * 4);
  const int64_t panel_begin = w.num_panels * worker / n_workers,
                panel_end = w.num_panels * (worker + 1) / n_workers;

  for (int64_t run = 0; run < l.rows; run += kIntSuperRows) {
    const int64_t rows = l.rows - run < kIntSuperRows ? l.rows - run : kIntSuperRows;
    const Blocks blocks = make_blocks(w, rows);
    const int larger_rows = static_cast<int>(blocks.base + 1),
              base_rows = static_cast<int>(blocks.base);
    const int64_t in_larger = blocks.larger * larger_rows;
    const int32_t* zeros =
        l.row_zeros + run;  // with zero points there is one limb, so rows are rows of x
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      memset(c, 0, static_cast<size_t>(rows) * kIntPanel * 4);
      const uint8_t* at = w.panels + panel * w.panel_bytes;
      for (int32_t g = 0; g < w.num_groups; ++g) {
        t.padded = w.padded_begin[g + 1] - w.padded_begin[g];
        t.steps = t.padded / kIntStep;
        t.length = w.group_begin[g + 1] - w.group_begin[g];
        t.codes = at;
        t.meta = at + t.padded * kIntPanel * w.code_bits / 8;
        at = t.meta + w.scale_bytes + w.zero_bytes + w.sum_bytes;
        bool unpacked = false;
#if !PLUQ_INT_HAS_DOT
        if (w.code_bits == 4) {
          convert_meta(&t);
          if (blocks.count > 2 && t.steps <= kIntUnpackSteps) {
            uint8_t* bytes = reinterpret_cast<uint8_t*>(t.dots) + kIntScratchRows * kIntPanel * 4;
            unpack_nibbles(t.codes, t.steps, bytes);
            t.codes = bytes;
            unpacked = true;
          }
        }
#endif
        const uint8_t* block = group_codes(w, l, g) + run * row_bytes(w, l, g);
        if (blocks.larger > 0) run_for(w, unpacked, larger_rows)(t, blocks.larger, block, zeros, c);
        if (blocks.count > blocks.larger) {
          run_for(w, unpacked, base_rows)(t, blocks.count - blocks.larger,
                                          block + in_larger * row_bytes(w, l, g), zeros + in_larger,
                                          c + in_larger * kIntPanel);
        }
      }
      write_panel(w, *output, l, c, run, rows, panel);
    }
  }
}

const IntKernels kIntKernels = {kIsaName, &quantize, &gemm};

#undef PLUQ_NOINLINE
#undef PLUQ_INLINE
#undef PLUQ_UNROLL
#undef PLUQ_NO_HOIST
