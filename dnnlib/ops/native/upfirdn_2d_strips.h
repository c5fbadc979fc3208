// The cases that StyleGAN2 runs: four separable taps, up 2, down 2 or neither, in one pass with everything in registers.
//
// Two output rows are made at once, because they share input rows, for a strip of channels that walks along the columns:
// each input pixel is read once per pair of rows, filtered vertically, and pushed into a filter in transposed form whose
// carries stay in registers. Nothing is stored but the result.
#ifndef DNNLIB_OPS_NATIVE_UPFIRDN_2D_STRIPS_H_
#define DNNLIB_OPS_NATIVE_UPFIRDN_2D_STRIPS_H_

#include <algorithm>
#include <cstring>
#include <vector>

#include "upfirdn_2d.h"

namespace dnnlib {
namespace strips {

constexpr int kTaps = 4, kPair = 2;

// LANES channels that are loaded, computed with and stored together. The type may start at any element.
template <typename T, int LANES>
struct Lanes {
  typedef T type __attribute__((vector_size(LANES * sizeof(T)), aligned(alignof(T))));
  static constexpr int count = LANES;
  static type load(const T* p) { return *reinterpret_cast<const type*>(p); }
  static void store(T* p, type v) { *reinterpret_cast<type*>(p) = v; }
};

// The last one to three channels, in a vector of four.
template <typename T, int LANES>
struct FewLanes {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));
  static constexpr int count = LANES;
  static type load(const T* p) { return type{p[0], LANES > 1 ? p[1 % LANES] : 0, LANES > 2 ? p[2 % LANES] : 0, 0}; }
  static void store(T* p, type v) {
    for (int i = 0; i < LANES; ++i) p[i] = v[i];
  }
};

template <int UP, int DOWN>
struct Case {
  static constexpr int rows = UP == 2 ? 2 : kTaps + DOWN * (kPair - 1);  // input rows for a pair of output rows
  static constexpr int carries = UP == 2 ? 2 : DOWN == 2 ? 1 : 3;
  // The tap that output row r of the pair gives to input row u, or -1.
  static constexpr int tap(int r, int u) {
    return UP == 2 ? (u == 0 ? 2 + r : r) : u - r * DOWN >= 0 && u - r * DOWN < kTaps ? kTaps - 1 - (u - r * DOWN) : -1;
  }
};

// What a strip needs to know: row pointers in (null rows are pointed at zeros) and out, widths, and the taps.
template <typename T, int ROWS>
struct Job {
  const T* in[ROWS];
  T* out[kPair];
  int64_t w, out_w, c, pad;
  const T* fy;
  const T* fx;
};

template <int UP, int DOWN, typename T, typename L, int COUNT>
class Strip {
  using V = typename L::type;
  using C = Case<UP, DOWN>;

 public:
  Strip(const Job<T, C::rows>& job, int64_t channel) : job_(job), channel_(channel) {}

  void run() {
    // Step s pushes input columns s * DOWN - shift + (0 .. DOWN - 1) and completes output columns s * UP - late + (0 .. UP - 1).
    const int64_t shift = UP == 2 ? 0 : job_.pad, late = UP == 2 ? 3 - job_.pad : DOWN == 2 ? 1 : 3;
    const int64_t first = UP == 2 ? floor_div(late - 1, 2) - 1 : 0, end = floor_div(job_.out_w - 1 + late, UP) + 1;
    int64_t safe = std::max(floor_div(shift + DOWN - 1, DOWN), floor_div(late + UP - 1, UP));
    safe = std::min(std::max(safe, first), end);
    const int64_t safe_in = floor_div(job_.w + shift, DOWN), safe_out = floor_div(job_.out_w + late, UP);
    const int64_t unsafe = std::max(safe, std::min({safe_in, safe_out, end}));
    V carry[kPair][C::carries][COUNT] = {};
    for (int64_t s = first; s < safe; ++s) step<true>(s, shift, late, carry);
    for (int64_t s = safe; s < unsafe; ++s) step<false>(s, shift, late, carry);
    for (int64_t s = unsafe; s < end; ++s) step<true>(s, shift, late, carry);
  }

 private:
  static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

  template <bool CHECK>
  inline __attribute__((always_inline)) void step(int64_t s, int64_t shift, int64_t late,
                                                  V (&carry)[kPair][C::carries][COUNT]) {
    V v[DOWN][kPair][COUNT];
    for (int d = 0; d < DOWN; ++d) column<CHECK>(s * DOWN - shift + d, v[d]);
    for (int r = 0; r < kPair; ++r) {
      for (int i = 0; i < COUNT; ++i) {
        V out[UP];
        push(v, r, i, carry, out);
        for (int q = 0; q < UP; ++q) {
          const int64_t x = s * UP - late + q;
          if (!CHECK || (x >= 0 && x < job_.out_w)) L::store(job_.out[r] + x * job_.c + channel_ + i * L::count, out[q]);
        }
      }
    }
  }

  // The vertically filtered pixels of input column x, for both rows of the pair; zeros outside of the image.
  template <bool CHECK>
  inline __attribute__((always_inline)) void column(int64_t x, V (&v)[kPair][COUNT]) {
    const bool inside = !CHECK || (x >= 0 && x < job_.w);
    for (int i = 0; i < COUNT; ++i) {
      V in[C::rows] = {};
      for (int u = 0; u < C::rows && inside; ++u) in[u] = L::load(job_.in[u] + x * job_.c + channel_ + i * L::count);
      for (int r = 0; r < kPair; ++r) {
        V sum = {};
        for (int u = 0; u < C::rows; ++u) {
          if (C::tap(r, u) >= 0) sum += in[u] * job_.fy[C::tap(r, u)];
        }
        v[r][i] = sum;
      }
    }
  }

  static inline __attribute__((always_inline)) void push(const V (&v)[DOWN][kPair][COUNT], int r, int i,
                                                         V (&carry)[kPair][C::carries][COUNT], V (&out)[UP], const T* fx) {
    V(&c)[C::carries][COUNT] = carry[r];
    const V a = v[0][r][i];
    if (UP == 2) {
      for (int q = 0; q < 2; ++q) {
        out[q % UP] = c[q % C::carries][i] + a * fx[q];
        c[q % C::carries][i] = a * fx[2 + q];
      }
    } else if (DOWN == 2) {
      const V b = v[DOWN - 1][r][i];
      out[0] = c[0][i] + a * fx[1] + b * fx[0];
      c[0][i] = a * fx[3] + b * fx[2];
    } else {
      out[0] = c[0][i] + a * fx[0];
      c[0][i] = c[1 % C::carries][i] + a * fx[1];
      c[1 % C::carries][i] = c[2 % C::carries][i] + a * fx[2];
      c[2 % C::carries][i] = a * fx[3];
    }
  }

  inline __attribute__((always_inline)) void push(const V (&v)[DOWN][kPair][COUNT], int r, int i,
                                                  V (&carry)[kPair][C::carries][COUNT], V (&out)[UP]) const {
    push(v, r, i, carry, out, job_.fx);
  }

  const Job<T, C::rows> job_;
  const int64_t channel_;
};

// All channels of one pair of rows: as many as possible in wide strips.
template <int UP, int DOWN, typename T>
void pair_of_rows(const Job<T, Case<UP, DOWN>::rows>& job) {
  constexpr int wide = 64 / sizeof(T);
  int64_t c = 0;
  for (; c + 2 * wide <= job.c; c += 2 * wide) Strip<UP, DOWN, T, Lanes<T, wide>, 2>(job, c).run();
  for (; c + wide <= job.c; c += wide) Strip<UP, DOWN, T, Lanes<T, wide>, 1>(job, c).run();
  for (; c + wide / 2 <= job.c; c += wide / 2) Strip<UP, DOWN, T, Lanes<T, wide / 2>, 1>(job, c).run();
  for (; c + 4 <= job.c; c += 4) Strip<UP, DOWN, T, Lanes<T, 4>, 1>(job, c).run();
  if (job.c - c == 3) Strip<UP, DOWN, T, FewLanes<T, 3>, 1>(job, c).run();
  if (job.c - c == 2) Strip<UP, DOWN, T, FewLanes<T, 2>, 1>(job, c).run();
  if (job.c - c == 1) Strip<UP, DOWN, T, FewLanes<T, 1>, 1>(job, c).run();
}

template <int UP, int DOWN, typename T>
void filter(const Upfirdn2d& p, const T* x, T* y, const ParallelFor& parallel_for) {
  constexpr int rows = Case<UP, DOWN>::rows;
  // With up 2, rows pair up so that both need the same input rows: pair g is output rows 2g - odd and 2g - odd + 1.
  const int64_t odd = UP == 2 ? (p.pad_y % 2 == 0) : 0;
  const int64_t pairs = (p.out_h + odd + kPair - 1) / kPair;
  T taps[2 * kTaps];
  for (int k = 0; k < 2 * kTaps; ++k) taps[k] = T(p.kernel[k]);
  parallel_for(p.n * pairs, kPair * p.out_w * p.c / 4, [&](int64_t begin, int64_t end) {
    const std::vector<T> zeros(p.w * p.c);
    std::vector<T> nowhere(p.out_w * p.c);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t image = unit / pairs, top = unit % pairs * kPair - odd;
      Job<T, rows> job = {{}, {}, p.w, p.out_w, p.c, p.pad_x, taps, taps + kTaps};
      const int64_t base = top + kTaps - 1 - p.pad_y;  // even where UP is 2
      const int64_t start = UP == 2 ? base / 2 - 1 : top * DOWN - p.pad_y;
      for (int u = 0; u < rows; ++u) {
        const int64_t row = start + u;
        job.in[u] = row >= 0 && row < p.h ? x + (image * p.h + row) * p.w * p.c : zeros.data();
      }
      for (int r = 0; r < kPair; ++r) {
        const int64_t row = top + r;
        job.out[r] = row >= 0 && row < p.out_h ? y + (image * p.out_h + row) * p.out_w * p.c : nowhere.data();
      }
      pair_of_rows<UP, DOWN>(job);
    }
  });
}

// Whether `filter` has this case.
inline bool suit(const Upfirdn2d& p) {
  return p.separable && p.kh == kTaps && p.kw == kTaps && p.up * p.down <= 2;
}

}  // namespace strips
}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_UPFIRDN_2D_STRIPS_H_
