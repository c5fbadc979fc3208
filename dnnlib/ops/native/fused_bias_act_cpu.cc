// fused_bias_act on the CPU: one pass over memory forward and one for each derivative, its sums included.
#include "fused_bias_act.h"

#include <algorithm>
#include <vector>

#include "lanes.h"

namespace dnnlib {
namespace {

constexpr int64_t kBlock = 16384;  // elements a block; fixed, so that sums do not depend on the number of threads
constexpr int kWidest = 4;         // vectors in a strip of channels, so that its sums stay in registers
constexpr int64_t kRow = 64;       // rows shorter than this are joined where nothing varies from pixel to pixel

// How [n, pixels, c] is walked: images that share their scale and noise are one, short rows are joined `repeat` at a time.
template <typename T>
struct Plan {
  explicit Plan(const FusedBiasAct<T>& p)
      : n(p.n), pixels(p.pixels), c(p.c), noise_stride(p.noise_stride), noise(p.noise), strength(p.noise ? *p.strength : 0),
        above(p.gain), below(p.gain * p.alpha) {
    const bool alike = !p.scale && (!p.noise || p.noise_stride == p.pixels);
    if (alike) pixels *= n, n = 1;
    while (!p.noise && c < kRow && pixels % 2 == 0 && pixels > 1) repeat *= 2, c *= 2, pixels /= 2;
    block_pixels = std::max<int64_t>(kBlock / std::max<int64_t>(c, 1), 1);
    image_blocks = (pixels + block_pixels - 1) / block_pixels;
    scale = spread(p.scale, n, T(1));
    bias = spread(p.bias, 1, T(0));
  }

  // [images, c] with the values repeated for joined pixels, or `absent` everywhere where there are none.
  std::vector<T> spread(const T* values, int64_t images, T absent) const {
    std::vector<T> result(images * c, absent);
    const int64_t width = c / repeat;
    for (int64_t i = 0; values && i < images * repeat; ++i) {
      std::copy_n(values + i / repeat * width, width, result.begin() + i * width);
    }
    return result;
  }

  // Calls work(block, image, first pixel, end pixel) for every block.
  template <typename Work>
  void run(const ParallelFor& parallel_for, const Work& work) const {
    parallel_for(n * image_blocks, std::min(block_pixels, pixels) * c / 2, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t image = block / image_blocks, first = block % image_blocks * block_pixels;
        work(block, image, first, std::min(first + block_pixels, pixels));
      }
    });
  }

  T noise_at(int64_t image, int64_t pixel) const { return noise ? noise[image * noise_stride + pixel] : T(0); }

  int64_t n, pixels, c, repeat = 1, noise_stride, block_pixels, image_blocks;
  const T* noise;
  T strength, above, below;  // slopes for positive and other v, gain included
  std::vector<T> scale, bias;
};

// Per block, [sums, c] partial sums, added up in block order when all blocks are done.
template <typename T>
class Partials {
 public:
  Partials(const Plan<T>& plan, int sums)
      : plan_(plan), sums_(sums), values_(plan.n * plan.image_blocks * sums * plan.c, T(0)) {}

  T* at(int64_t block, int sum) { return values_.data() + (block * sums_ + sum) * plan_.c; }

  // result[images, c / repeat]: the sum over the blocks of each image, or over all blocks where images is 1.
  void reduce(int sum, int64_t images, T* result) {
    const int64_t width = plan_.c / plan_.repeat, blocks = plan_.n * plan_.image_blocks;
    std::fill(result, result + images * width, T(0));
    for (int64_t block = 0; block < blocks; ++block) {
      T* row = result + (images == 1 ? 0 : block / plan_.image_blocks) * width;
      for (int64_t i = 0; i < plan_.c; ++i) row[i % width] += at(block, sum)[i];
    }
  }

  T total(int sum) {
    T result = 0;
    for (int64_t block = 0; block < plan_.n * plan_.image_blocks; ++block) {
      for (int64_t i = 0; i < plan_.c; ++i) result += at(block, sum)[i];
    }
    return result;
  }

 private:
  const Plan<T>& plan_;
  int sums_;
  std::vector<T> values_;
};

// The loops. Outputs may be their own inputs (TensorFlow reuses buffers): element i is read before it is written.

template <typename T>
inline void forward_row(int64_t c, const T* x, const T* scale, const T* bias, T shift, T above, T below, T* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < c; ++i) {
    const T v = x[i] * scale[i] + (bias[i] + shift);
    y[i] = v * (v > 0 ? above : below);
  }
}

// One strip of channels down a block of pixels: per-channel values and sums stay in registers.
template <typename T, typename S>
struct Walk {
  using L = typename S::lanes;
  using V = typename L::type;
  static constexpr int N = S::vectors;

  Walk(const Plan<T>& plan, int64_t image, int64_t channel) : plan(plan), image(image), channel(channel) {
    load(plan.scale.data() + image * plan.c, scale);
    load(plan.bias.data(), bias);
  }

  void load(const T* row, V (&values)[N]) const {
    for (int i = 0; i < N; ++i) values[i] = L::load(row + channel + i * L::count);
  }
  void add_to(T* row, const V (&values)[N]) const {
    for (int i = 0; i < N; ++i) {
      T* p = row + channel + i * L::count;
      L::store(p, L::load(p) + values[i]);
    }
  }
  int64_t at(int64_t pixel, int i) const { return (image * plan.pixels + pixel) * plan.c + channel + i * L::count; }
  V slope(V v) const { return v > 0 ? V{} + plan.above : V{} + plan.below; }

  template <bool SCALE, bool NOISE>
  void grad(const FusedBiasActGrad<T>& g, int64_t first, int64_t end, T* dscale, T* dbias, T* dstrength) const {
    V sum_x[N] = {}, sum[N] = {}, sum_noise[N] = {};
    for (int64_t pixel = first; pixel < end; ++pixel) {
      const T noise = NOISE ? plan.noise_at(image, pixel) : T(0), shift = noise * plan.strength;
      for (int i = 0; i < N; ++i) {
        const V source = L::load(g.sign_source + at(pixel, i));
        const V d = L::load(g.dy + at(pixel, i)) * slope(SCALE ? source * scale[i] + (bias[i] + shift) : source);
        sum[i] += d;
        if (SCALE) sum_x[i] += d * source;
        if (NOISE) sum_noise[i] += d * noise;
        L::store(g.dx + at(pixel, i), SCALE ? d * scale[i] : d);
      }
    }
    add_to(dbias, sum);
    if (SCALE) add_to(dscale, sum_x);
    if (NOISE) add_to(dstrength, sum_noise);
  }

  template <bool SCALE>
  void grad_grad(const FusedBiasActGradGrad<T>& g, int64_t first, int64_t end, const T* gdscale_row, const T* gdbias_row,
                 T gdstrength, T* dscale) const {
    V gdscale[N], gdbias[N], sum[N] = {};
    load(gdscale_row, gdscale);
    load(gdbias_row, gdbias);
    for (int64_t pixel = first; pixel < end; ++pixel) {
      const T noise = plan.noise_at(image, pixel), shift = noise * plan.strength, gdshift = noise * gdstrength;
      for (int i = 0; i < N; ++i) {
        const V source = L::load(g.sign_source + at(pixel, i)), gdx = L::load(g.gdx + at(pixel, i));
        const V s = slope(SCALE ? source * scale[i] + (bias[i] + shift) : source);
        if (SCALE) {
          const V d = L::load(g.dy + at(pixel, i)) * s;
          sum[i] += gdx * d;
          L::store(g.dx + at(pixel, i), gdscale[i] * d);
          L::store(g.ddy + at(pixel, i), (gdx * scale[i] + gdscale[i] * source + (gdbias[i] + gdshift)) * s);
        } else {
          L::store(g.ddy + at(pixel, i), (gdx + (gdbias[i] + gdshift)) * s);
        }
      }
    }
    if (SCALE) add_to(dscale, sum);
  }

  const Plan<T>& plan;
  const int64_t image, channel;
  V scale[N], bias[N];
};

template <bool SCALE, bool NOISE, typename T>
void grad(const Plan<T>& plan, const FusedBiasActGrad<T>& g, Partials<T>& partials, const ParallelFor& parallel_for) {
  plan.run(parallel_for, [&](int64_t block, int64_t image, int64_t first, int64_t end) {
    for_strips<T, kWidest>(plan.c, [&](auto strip, int64_t channel) {
      Walk<T, decltype(strip)>(plan, image, channel)
          .template grad<SCALE, NOISE>(g, first, end, partials.at(block, 0), partials.at(block, 1), partials.at(block, 2));
    });
  });
}

template <bool SCALE, typename T>
void grad_grad(const Plan<T>& plan, const FusedBiasActGradGrad<T>& g, Partials<T>& partials,
               const ParallelFor& parallel_for) {
  const std::vector<T> gdscale = plan.spread(g.gdscale, plan.n, T(0)), gdbias = plan.spread(g.gdbias, 1, T(0));
  const T gdstrength = g.gdstrength ? *g.gdstrength : T(0);
  plan.run(parallel_for, [&](int64_t block, int64_t image, int64_t first, int64_t end) {
    for_strips<T, kWidest>(plan.c, [&](auto strip, int64_t channel) {
      Walk<T, decltype(strip)>(plan, image, channel)
          .template grad_grad<SCALE>(g, first, end, gdscale.data() + image * plan.c, gdbias.data(), gdstrength,
                                     partials.at(block, 0));
    });
  });
}

}  // namespace

template <typename T>
void fused_bias_act_cpu(const FusedBiasAct<T>& p, const T* x, T* y, const ParallelFor& parallel_for) {
  const Plan<T> plan(p);
  plan.run(parallel_for, [&](int64_t, int64_t image, int64_t first, int64_t end) {
    for (int64_t pixel = first; pixel < end; ++pixel) {
      const int64_t at = (image * plan.pixels + pixel) * plan.c;
      forward_row(plan.c, x + at, plan.scale.data() + image * plan.c, plan.bias.data(),
                  plan.noise_at(image, pixel) * plan.strength, plan.above, plan.below, y + at);
    }
  });
}

template <typename T>
void fused_bias_act_grad_cpu(const FusedBiasAct<T>& p, const FusedBiasActGrad<T>& g, const ParallelFor& parallel_for) {
  const Plan<T> plan(p);
  Partials<T> partials(plan, 3);
  if (p.scale && p.noise) grad<true, true>(plan, g, partials, parallel_for);
  else if (p.scale) grad<true, false>(plan, g, partials, parallel_for);
  else if (p.noise) grad<false, true>(plan, g, partials, parallel_for);
  else grad<false, false>(plan, g, partials, parallel_for);
  if (g.dscale) partials.reduce(0, p.n, g.dscale);
  if (g.dbias) partials.reduce(1, 1, g.dbias);
  if (g.dstrength) *g.dstrength = partials.total(2);
}

template <typename T>
void fused_bias_act_grad_grad_cpu(const FusedBiasAct<T>& p, const FusedBiasActGradGrad<T>& g,
                                  const ParallelFor& parallel_for) {
  const Plan<T> plan(p);
  Partials<T> partials(plan, 1);
  if (!p.scale) return grad_grad<false>(plan, g, partials, parallel_for);
  grad_grad<true>(plan, g, partials, parallel_for);
  partials.reduce(0, p.n, g.dscale);
}

#define INSTANTIATE(T)                                                                                            \
  template void fused_bias_act_cpu(const FusedBiasAct<T>&, const T*, T*, const ParallelFor&);                     \
  template void fused_bias_act_grad_cpu(const FusedBiasAct<T>&, const FusedBiasActGrad<T>&, const ParallelFor&); \
  template void fused_bias_act_grad_grad_cpu(const FusedBiasAct<T>&, const FusedBiasActGradGrad<T>&, const ParallelFor&)
INSTANTIATE(float);
INSTANTIATE(double);
#undef INSTANTIATE

}  // namespace dnnlib
