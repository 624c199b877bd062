// SPDX-License-Identifier: Apache-2.0
// Four rows of x share one decode of the weights: 32 codes become four vectors of 8 floats, scaled
// once.
#include <immintrin.h>

#include "kernel.h"

namespace int3 {
namespace {

// Codes 8*q .. 8*q+7 of a group as floats, c - 4.
inline __m256 decode(const uint32_t* p, __m256i shift) {
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i b0 =
      _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(p[0])), shift), one);
  const __m256i b1 =
      _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(p[1])), shift), one);
  const __m256i b2 =
      _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(p[2])), shift), one);
  const __m256i code =
      _mm256_or_si256(b0, _mm256_or_si256(_mm256_slli_epi32(b1, 1), _mm256_slli_epi32(b2, 2)));
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(code, _mm256_set1_epi32(4)));
}

inline float sum(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

template <int kRows>
void rows(const Job& j, int64_t m, int64_t n) {
  const int64_t groups = j.k / 32;
  __m256 total[kRows];
  for (__m256& t : total) t = _mm256_setzero_ps();
  for (int64_t g = 0; g < groups; ++g) {
    const uint32_t* p = j.planes + (n * groups + g) * 3;
    const __m256 scale = _mm256_set1_ps(j.scales[n * groups + g]);
    for (int q = 0; q < 4; ++q) {
      const __m256i shift =
          _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(8 * q));
      const __m256 w = _mm256_mul_ps(decode(p, shift), scale);
      for (int r = 0; r < kRows; ++r) {
        total[r] =
            _mm256_fmadd_ps(w, _mm256_loadu_ps(j.x + (m + r) * j.ldx + g * 32 + 8 * q), total[r]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r)
    j.y[(m + r) * j.ldy + n] = sum(total[r]) + (j.bias == nullptr ? 0.0F : j.bias[n]);
}

}  // namespace

void run_avx2(const Job& j) {
  for (int64_t n = j.n_begin; n < j.n_end; ++n) {
    int64_t m = 0;
    for (; m + 4 <= j.m; m += 4) rows<4>(j, m, n);
    for (; m < j.m; ++m) rows<1>(j, m, n);
  }
}

}  // namespace int3
