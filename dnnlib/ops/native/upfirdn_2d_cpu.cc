// upfirdn_2d on the CPU: NHWC, vectorised over channels, filtered by phase so that inserted zeros are never multiplied.
#include "upfirdn_2d.h"

#include <algorithm>
#include <vector>

#include "upfirdn_2d_strips.h"

namespace dnnlib {
namespace {

constexpr int kGroup = 4;              // taps combined in one sweep over memory
constexpr int64_t kTileBytes = 16384;  // a strip of vertically filtered pixels that stays in the first-level cache

// The input rows (or columns) first .. first + count - 1 that an output row needs, and the tap of each.
template <typename T>
struct Span {
  int64_t first, count;
  const T* taps;
};

// One axis: a span for each output row, and the filter's phases that the spans point into.
template <typename T>
class Axis {
 public:
  Axis(const float* kernel, int taps, int64_t size, int64_t out_size, int up, int down, int pad) : phases_(up) {
    for (int phase = 0; phase < up; ++phase) {
      for (int k = phase; k < taps; k += up) phases_[phase].insert(phases_[phase].begin(), T(kernel[k]));
    }
    for (int64_t out = 0; out < out_size; ++out) {
      const int64_t base = out * down + taps - 1 - pad;  // tap = base - up * in
      const int64_t phase = (base % up + up) % up;
      const int64_t last = (base - phase) / up;
      const std::vector<T>& phase_taps = phases_[phase];
      const int64_t start = last - int64_t(phase_taps.size()) + 1;
      const int64_t first = std::min(std::max<int64_t>(start, 0), size), end = std::min(last + 1, size);
      const int64_t count = std::max<int64_t>(end - first, 0);
      spans_.push_back({first, count, phase_taps.data() + (count ? first - start : 0)});
    }
  }
  const Span<T>& operator[](int64_t out) const { return spans_[out]; }

 private:
  std::vector<std::vector<T>> phases_;
  std::vector<Span<T>> spans_;
};

// y[i] (+)= sum over j < COUNT of taps[j] * x[j * stride + i].
template <int COUNT, bool ADD, typename T>
inline void combine_group(const T* __restrict x, int64_t stride, const T* taps, int64_t size, T* __restrict y) {
  T tap[COUNT];
  for (int j = 0; j < COUNT; ++j) tap[j] = taps[j];
  for (int64_t i = 0; i < size; ++i) {
    T sum = ADD ? y[i] : T(0);
    for (int j = 0; j < COUNT; ++j) sum += tap[j] * x[j * stride + i];
    y[i] = sum;
  }
}

template <bool ADD, typename T>
inline void combine_upto(const T* x, int64_t stride, const T* taps, int64_t count, int64_t size, T* y) {
  switch (count) {
    case 1: return combine_group<1, ADD>(x, stride, taps, size, y);
    case 2: return combine_group<2, ADD>(x, stride, taps, size, y);
    case 3: return combine_group<3, ADD>(x, stride, taps, size, y);
    default: return combine_group<kGroup, ADD>(x, stride, taps, size, y);
  }
}

// y = sum of count pieces of x, `stride` apart, each times its tap; adds to y instead where `add`.
template <typename T>
inline void combine(const T* x, int64_t stride, const T* taps, int64_t count, int64_t size, T* y, bool add = false) {
  if (count == 0 && !add) std::fill(y, y + size, T(0));
  for (int64_t j = 0; j < count; j += kGroup) {
    const T* piece = x + j * stride;
    if (j || add) combine_upto<true>(piece, stride, taps + j, count - j, size, y);
    else combine_upto<false>(piece, stride, taps + j, count - j, size, y);
  }
}

// As many output columns as a tile of the vertically filtered row allows.
template <typename T>
struct Tile {
  int64_t out_begin, out_end, in_begin, in_end;
};

template <typename T>
std::vector<Tile<T>> tiles(const Upfirdn2d& p, const Axis<T>& columns) {
  const int64_t fit = kTileBytes / int64_t(p.c * sizeof(T)) * p.up / p.down;
  const int64_t width = std::max<int64_t>(fit, 4 * std::max(p.kw, p.up));
  std::vector<Tile<T>> result;
  for (int64_t begin = 0; begin < p.out_w; begin += width) {
    const int64_t end = std::min(begin + width, p.out_w);
    const int64_t last = columns[end - 1].first + columns[end - 1].count;
    result.push_back({begin, end, columns[begin].first, std::max(last, columns[begin].first)});
  }
  return result;
}

// The horizontal pass over one tile. `row` begins at input column `in_begin`.
template <typename T>
void filter_columns(const Upfirdn2d& p, const Axis<T>& columns, const Tile<T>& tile, const T* row, T* y) {
  for (int64_t out = tile.out_begin; out < tile.out_end;) {
    const Span<T>& span = columns[out];
    int64_t run = 1;  // neighbours with the same taps are one contiguous piece of memory
    if (p.up == 1 && p.down == 1) {
      while (out + run < tile.out_end && columns[out + run].count == span.count &&
             columns[out + run].taps == span.taps) ++run;
    }
    combine(row + (span.first - tile.in_begin) * p.c, p.c, span.taps, span.count, run * p.c, y + out * p.c);
    out += run;
  }
}

// Vertically first: a filtered strip is made for one output row at a time and needs no more than a tile of scratch.
template <typename T>
void separable(const Upfirdn2d& p, const T* x, T* y, const ParallelFor& parallel_for) {
  const Axis<T> rows(p.kernel, p.kh, p.h, p.out_h, p.up, p.down, p.pad_y);
  const Axis<T> columns(p.kernel + p.kh, p.kw, p.w, p.out_w, p.up, p.down, p.pad_x);
  const std::vector<Tile<T>> strips = tiles(p, columns);
  int64_t widest = 0;
  for (const Tile<T>& tile : strips) widest = std::max(widest, tile.in_end - tile.in_begin);
  parallel_for(p.n * p.out_h, p.out_w * p.c, [&](int64_t begin, int64_t end) {
    std::vector<T> strip(widest * p.c);
    for (int64_t unit = begin; unit < end; ++unit) {
      const Span<T>& span = rows[unit % p.out_h];
      const T* image = x + (unit / p.out_h * p.h + span.first) * p.w * p.c;
      for (const Tile<T>& tile : strips) {
        combine(image + tile.in_begin * p.c, p.w * p.c, span.taps, span.count,
                (tile.in_end - tile.in_begin) * p.c, strip.data());
        filter_columns(p, columns, tile, strip.data(), y + unit * p.out_w * p.c);
      }
    }
  });
}

// A filter of full rank: one horizontal pass for each of its rows, summed.
template <typename T>
void general(const Upfirdn2d& p, const T* x, T* y, const ParallelFor& parallel_for) {
  std::vector<Axis<T>> columns;
  std::vector<float> numbers(p.kh);
  for (int k = 0; k < p.kh; ++k) {
    numbers[k] = k;
    columns.emplace_back(p.kernel + k * p.kw, p.kw, p.w, p.out_w, p.up, p.down, p.pad_x);
  }
  const Axis<T> rows(numbers.data(), p.kh, p.h, p.out_h, p.up, p.down, p.pad_y);  // "taps" are row numbers
  parallel_for(p.n * p.out_h, p.out_w * p.c * p.kh, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Span<T>& span = rows[unit % p.out_h];
      T* out_row = y + unit * p.out_w * p.c;
      std::fill(out_row, out_row + p.out_w * p.c, T(0));
      for (int64_t j = 0; j < span.count; ++j) {
        const T* row = x + (unit / p.out_h * p.h + span.first + j) * p.w * p.c;
        const Axis<T>& axis = columns[int(span.taps[j])];
        for (int64_t out = 0; out < p.out_w; ++out) {
          combine(row + axis[out].first * p.c, p.c, axis[out].taps, axis[out].count, p.c, out_row + out * p.c, true);
        }
      }
    }
  });
}

}  // namespace

template <typename T>
void upfirdn_2d_cpu(const Upfirdn2d& p, const T* x, T* y, const ParallelFor& parallel_for) {
  if (strips::suit(p)) {
    if (p.up == 2) return strips::filter<2, 1>(p, x, y, parallel_for);
    if (p.down == 2) return strips::filter<1, 2>(p, x, y, parallel_for);
    return strips::filter<1, 1>(p, x, y, parallel_for);
  }
  return p.separable ? separable(p, x, y, parallel_for) : general(p, x, y, parallel_for);
}

template void upfirdn_2d_cpu(const Upfirdn2d&, const float*, float*, const ParallelFor&);
template void upfirdn_2d_cpu(const Upfirdn2d&, const double*, double*, const ParallelFor&);

}  // namespace dnnlib
