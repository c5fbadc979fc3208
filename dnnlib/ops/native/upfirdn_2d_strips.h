// The cases that StyleGAN2 runs: four symmetric taps, up 2, down 2 or neither, in one pass over memory.
//
// A few output rows are made at once, because they share input rows, for a strip of channels that walks along the columns:
// each input pixel is read once per group of rows, filtered vertically, and pushed into a filter in transposed form whose
// carries stay in registers or the first-level cache. Nothing is stored but the result.
#ifndef DNNLIB_OPS_NATIVE_UPFIRDN_2D_STRIPS_H_
#define DNNLIB_OPS_NATIVE_UPFIRDN_2D_STRIPS_H_

#include <algorithm>
#include <vector>

#include "lanes.h"
#include "upfirdn_2d.h"

#define DNNLIB_INLINE inline __attribute__((always_inline))

namespace dnnlib {
namespace strips {

constexpr int kTaps = 4;
constexpr int kRows = 4;      // output rows made at once, even
constexpr int kWidest = 16;   // vectors in a strip of channels

// One group of output rows: the input rows it needs (those outside of the image are zeros) and the two filters, vertically
// (outer, inner, inner, outer), horizontally (1, ratio, ratio, 1). Rows of the result that don't exist lead to scratch.
template <typename T, int INPUTS>
struct Job {
  const T* in[INPUTS];
  T* out[kRows];
  int64_t w, out_w, c, pad;
  T outer, inner, ratio;
};

template <int UP, int DOWN>
struct Case {
  static constexpr int inputs = UP == 2 ? kRows / 2 + 1 : kTaps + DOWN * (kRows - 1);
  static constexpr int carries = UP == 2 ? 2 : DOWN == 2 ? 1 : 3;
};

template <int UP, int DOWN, typename T, typename S>
class Walk {
  using L = typename S::lanes;
  using V = typename L::type;
  static constexpr int kInputs = Case<UP, DOWN>::inputs, kCarries = Case<UP, DOWN>::carries;

 public:
  // Step s pushes input columns s * DOWN - shift_ + (0 .. DOWN - 1) and completes output columns
  // s * UP - late_ + (0 .. UP - 1). Only the steps before `safe` and from `unsafe` on reach beyond an edge.
  Walk(const Job<T, kInputs>& job, int64_t channel)
      : job_(job), channel_(channel), shift_(UP == 2 ? 0 : job.pad), late_(UP == 2 ? 3 - job.pad : DOWN == 2 ? 1 : 3) {
    const int64_t first = UP == 2 ? floor_div(late_ - 1, 2) - 1 : 0, end = floor_div(job.out_w - 1 + late_, UP) + 1;
    int64_t safe = std::max(floor_div(shift_ + DOWN - 1, DOWN), floor_div(late_ + UP - 1, UP));
    safe = std::min(std::max(safe, first), end);
    const int64_t inside = std::min(floor_div(job.w + shift_, DOWN), floor_div(job.out_w + late_, UP));
    const int64_t unsafe = std::max(safe, std::min(inside, end));
    V carry[kRows][kCarries][S::vectors] = {};
    for (int64_t s = first; s < safe; ++s) step<true>(s, carry);
    for (int64_t s = safe; s < unsafe; ++s) step<false>(s, carry);
    for (int64_t s = unsafe; s < end; ++s) step<true>(s, carry);
  }

 private:
  static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

  template <bool CHECK>
  DNNLIB_INLINE void step(int64_t s, V (&carry)[kRows][kCarries][S::vectors]) {
    for (int i = 0; i < S::vectors; ++i) {
      V v[DOWN][kRows], out[UP];
      for (int d = 0; d < DOWN; ++d) filter_column<CHECK>(s * DOWN - shift_ + d, i, v[d]);
      for (int r = 0; r < kRows; ++r) {
        push(v[0][r], v[DOWN - 1][r], i, carry[r], out);
        for (int q = 0; q < UP; ++q) {
          const int64_t x = s * UP - late_ + q;
          if (!CHECK || (x >= 0 && x < job_.out_w)) L::store(job_.out[r] + at(x, i), out[q]);
        }
      }
    }
  }

  // Input column x, filtered vertically for each row of the group; zeros outside of the image.
  template <bool CHECK>
  DNNLIB_INLINE void filter_column(int64_t x, int i, V (&v)[kRows]) {
    V in[kInputs] = {};
    for (int u = 0; u < kInputs && (!CHECK || (x >= 0 && x < job_.w)); ++u) in[u] = L::load(job_.in[u] + at(x, i));
    for (int r = 0; r < kRows; ++r) {
      if constexpr (UP == 2) {
        v[r] = in[r / 2 + r % 2] * job_.inner + in[r / 2 + 1 - r % 2] * job_.outer;
      } else {
        v[r] = (in[r * DOWN] + in[r * DOWN + 3]) * job_.outer + (in[r * DOWN + 1] + in[r * DOWN + 2]) * job_.inner;
      }
    }
  }

  // Pushes a (and b, where DOWN is 2) into the horizontal filter of one row.
  DNNLIB_INLINE void push(V a, V b, int i, V (&carry)[kCarries][S::vectors], V (&out)[UP]) {
    constexpr int second = 1 % kCarries, third = 2 % kCarries;
    if (UP == 2) {
      const V inner = a * job_.ratio;
      out[0] = carry[0][i] + a;
      out[1 % UP] = carry[second][i] + inner;
      carry[0][i] = inner;
      carry[second][i] = a;
    } else if (DOWN == 2) {
      out[0] = carry[0][i] + a * job_.ratio + b;
      carry[0][i] = a + b * job_.ratio;
    } else {
      out[0] = carry[0][i] + a;
      carry[0][i] = carry[second][i] + a * job_.ratio;
      carry[second][i] = carry[third][i] + a * job_.ratio;
      carry[third][i] = a;
    }
  }

  int64_t at(int64_t x, int i) const { return x * job_.c + channel_ + i * L::count; }

  const Job<T, kInputs> job_;
  const int64_t channel_, shift_, late_;
};

template <int UP, int DOWN, typename T>
void filter(const Upfirdn2d& p, const T* x, T* y, const ParallelFor& parallel_for) {
  constexpr int inputs = Case<UP, DOWN>::inputs;
  // With up 2, two neighbouring rows need the same two input rows: groups begin with such a pair.
  const int64_t odd = UP == 2 && p.pad_y % 2 == 0;
  const int64_t groups = (p.out_h + odd + kRows - 1) / kRows;
  const float* ky = p.kernel;
  const T kx = p.kernel[kTaps], ratio = T(p.kernel[kTaps + 1]) / kx;
  const std::vector<T> zeros(p.w * p.c);
  parallel_for(p.n * groups, kRows * p.out_w * p.c / 4, [&](int64_t begin, int64_t end) {
    std::vector<T> nowhere;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t image = unit / groups, top = unit % groups * kRows - odd;
      Job<T, inputs> job = {{}, {}, p.w, p.out_w, p.c, p.pad_x, ky[0] * kx, ky[1] * kx, ratio};
      const int64_t start = UP == 2 ? (top + kTaps - 1 - p.pad_y) / 2 - 1 : top * DOWN - p.pad_y;  // exact: even
      for (int u = 0; u < inputs; ++u) {
        const int64_t row = start + u;
        job.in[u] = row >= 0 && row < p.h ? x + (image * p.h + row) * p.w * p.c : zeros.data();
      }
      for (int r = 0; r < kRows; ++r) {
        const int64_t row = top + r;
        const bool wanted = row >= 0 && row < p.out_h;
        if (!wanted) nowhere.resize(p.out_w * p.c);
        job.out[r] = wanted ? y + (image * p.out_h + row) * p.out_w * p.c : nowhere.data();
      }
      for_strips<T, kWidest>(p.c, [&](auto strip, int64_t channel) { Walk<UP, DOWN, T, decltype(strip)>(job, channel); });
    }
  });
}

// Whether `filter` has this case.
inline bool suit(const Upfirdn2d& p) {
  const float* k = p.kernel;
  return p.separable && p.kh == kTaps && p.kw == kTaps && p.up * p.down <= 2 && k[0] == k[3] && k[1] == k[2] &&
         k[4] == k[7] && k[5] == k[6] && k[4] != 0;
}

}  // namespace strips
}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_UPFIRDN_2D_STRIPS_H_
