// SPDX-License-Identifier: Apache-2.0
// The probes, written once against the integer vocabulary; included in an ISA's namespace by
// probe_<isa>.inl.

#define PLUQ_UNROLL _Pragma("GCC unroll 16")

template <int kStreams, bool kPrefetch>
inline uint64_t read_streams(const uint8_t* at, int64_t bytes) {
  const int64_t stride = bytes / kStreams / 64 * 64;
  constexpr int kVector = 4 * kLanes, kPer = 64 / kVector;
  VI sum[kStreams][kPer];
  PLUQ_UNROLL for (int s = 0; s < kStreams; ++s) PLUQ_UNROLL for (int j = 0; j < kPer; ++j)
      sum[s][j] = zero();
  for (int64_t i = 0; i < stride; i += 64) {
    PLUQ_UNROLL for (int s = 0; s < kStreams; ++s) {
      if (kPrefetch) __builtin_prefetch(at + s * stride + i + 2048, 0, 3);
      PLUQ_UNROLL for (int j = 0; j < kPer; ++j) sum[s][j] =
          add32(sum[s][j], load(at + s * stride + i + j * kVector));
    }
  }
  uint64_t total = 0;
  for (int s = 0; s < kStreams; ++s) {
    for (int j = 0; j < kPer; ++j) {
      uint32_t lanes[kLanes];
      store(lanes, sum[s][j]);
      for (int i = 0; i < kLanes; ++i) total += lanes[i];
    }
  }
  for (int64_t i = stride * kStreams; i < bytes; ++i) total += at[i];
  return total;
}

inline uint64_t probe_read(const void* memory, int64_t bytes, int form, int worker, int n_workers) {
  const int64_t lines = bytes / 64;
  const int64_t begin = lines * worker / n_workers * 64,
                end = lines * (worker + 1) / n_workers * 64;
  const uint8_t* at = static_cast<const uint8_t*>(memory) + begin;
  if (form == 1) return read_streams<1, true>(at, end - begin);
  if (form == 2) return read_streams<2, false>(at, end - begin);
  if (form == 3) return read_streams<4, false>(at, end - begin);
  return read_streams<1, false>(at, end - begin);
}

// Keeps a value in a register and unknown to the compiler.
#if PLUQ_INT_HAS_DOT
#define PLUQ_OPAQUE(v) asm volatile("" : "+v"(v))
#else
#define PLUQ_OPAQUE(v) asm volatile("" : "+x"(v))
#endif

inline double probe_peak(ProbePeak kind, int64_t rounds) {
  constexpr int kChains = 12;
  const int8_t bytes[4] = {1, 2, 3, 4};
  if (kind == ProbePeak::kF32) {
    VF acc[kChains], a = set1_f32(0.5f), b = set1_f32(0.25f);
    PLUQ_OPAQUE(a);
    PLUQ_OPAQUE(b);
    PLUQ_UNROLL for (int i = 0; i < kChains; ++i) acc[i] = set1_f32(static_cast<float>(i));
    for (int64_t r = 0; r < rounds; ++r) {
      PLUQ_UNROLL for (int i = 0; i < kChains; ++i) acc[i] = mul_add(acc[i], a, b);
    }
    PLUQ_UNROLL for (int i = 0; i < kChains; ++i) PLUQ_OPAQUE(acc[i]);
    return 2.0 * kLanes * kChains * static_cast<double>(rounds);
  }
  VI acc[kChains], u = set1_8(3);
  PLUQ_OPAQUE(u);
  PLUQ_UNROLL for (int i = 0; i < kChains; ++i) acc[i] = zero();
#if PLUQ_INT_HAS_DOT
  for (int64_t r = 0; r < rounds; ++r) {
    PLUQ_UNROLL for (int i = 0; i < kChains; ++i) acc[i] = dot_broadcast(acc[i], u, bytes);
  }
  const double per = 8.0 * kLanes;
#else
  VI s;
  memcpy(&s, &u, sizeof(s));
  s = add32(s, set1_32(bytes[0]));
  PLUQ_OPAQUE(s);
  if (kind == ProbePeak::kInt4) {
    for (int64_t r = 0; r < rounds; ++r) {
      PLUQ_UNROLL for (int i = 0; i < kChains; ++i) {
        PLUQ_OPAQUE(s);  // a new value for the compiler, so that each product is computed
        const VI d = dot_u8s8_16(u, s);
        acc[i] = add16(acc[i], d);
      }
    }
  } else {
    for (int64_t r = 0; r < rounds; ++r) {
      PLUQ_UNROLL for (int i = 0; i < kChains; ++i) {
        PLUQ_OPAQUE(s);
        const VI d = dot_16_32(u, s);
        acc[i] = add32(acc[i], d);
      }
    }
  }
  const double per = (kind == ProbePeak::kInt4 ? 8.0 : 4.0) * kLanes;
#endif
  PLUQ_UNROLL for (int i = 0; i < kChains; ++i) PLUQ_OPAQUE(acc[i]);
  return per * kChains * static_cast<double>(rounds);
}

const Probes kProbes = {kIsaName, &probe_read, &probe_peak};

#undef PLUQ_OPAQUE
#undef PLUQ_UNROLL
