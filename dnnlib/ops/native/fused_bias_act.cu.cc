// fused_bias_act and its derivatives on the GPU: one pass over memory each, sums in a fixed order. No TensorFlow headers.
#include <cuda_runtime.h>

#include "cuda_common.cuh"

namespace dnnlib {
namespace {

constexpr int kPixels = 32;  // pixels that one thread sums over, and rows that one thread adds up afterwards

template <typename T, typename V>
const FusedBiasAct<T>& typed(const FusedBiasAct<V>* p) { return *reinterpret_cast<const FusedBiasAct<T>*>(p); }

// What a thread knows of its channels, and v and its slope from it.
template <typename T, int N>
struct Channels {
  float scale[N], bias[N], strength, above, below;

  DNNLIB_DEVICE Channels(const FusedBiasAct<T>& p, int64_t image, int64_t c)
      : strength(p.noise ? to_float(*p.strength) : 0), above(p.gain), below(p.gain * p.alpha) {
    load_or(p.scale, image * p.c + c, 1.0f, scale);
    load_or(p.bias, c, 0.0f, bias);
  }
  DNNLIB_DEVICE float v(float x, int i, float noise) const { return x * scale[i] + (noise * strength + bias[i]); }
  DNNLIB_DEVICE float slope(float v) const { return v > 0 ? above : below; }
};

template <typename T>
DNNLIB_DEVICE float noise_at(const FusedBiasAct<T>& p, int64_t image, int64_t pixel) {
  return p.noise ? to_float(p.noise[image * p.noise_stride + pixel]) : 0;
}

template <typename T, int N>
struct Forward {
  FusedBiasAct<T> p;
  const T* x;
  T* y;

  __host__ __device__ void operator()(int64_t image, unsigned index) const {
    const unsigned packs = unsigned(p.c / N), pixel = index / packs;
    const int64_t c = int64_t(index % packs) * N, at = (image * p.pixels + pixel) * p.c + c;
    const Channels<T, N> channels(p, image, c);
    const float noise = noise_at(p, image, pixel);
    float values[N];
    load(x + at, values);
    for (int i = 0; i < N; ++i) {
      const float v = channels.v(values[i], i, noise);
      values[i] = v * channels.slope(v);
    }
    store(y + at, values);
  }
};

// How an image's pixels are shared out: neighbouring threads take neighbouring pixels (`together` of them make a warp's
// worth of memory), each thread up to kPixels of them, and writes one row of partial sums.
struct Share {
  int64_t pixels, packs, together, rows;

  Share(int64_t pixels, int64_t packs)
      : pixels(pixels), packs(packs), together(std::max<int64_t>(32 / std::max<int64_t>(packs, 1), 1)),
        rows((pixels + together * kPixels - 1) / (together * kPixels) * together) {}
};

// Calls work(pixel) for the pixels of row `row` of the sums.
template <typename Work>
DNNLIB_DEVICE void for_pixels(const Share& share, int64_t row, const Work& work) {
  const int64_t first = row / share.together * share.together * kPixels + row % share.together;
  for (int k = 0; k < kPixels; ++k) {
    const int64_t pixel = first + k * share.together;
    if (pixel < share.pixels) work(pixel);
  }
}

// partial [images, rows, 3, c]: sums of d * x, d and d * noise.
template <typename T, int N>
struct Grad {
  FusedBiasAct<T> p;
  FusedBiasActGrad<T> g;
  Share share;
  float* partial;

  __host__ __device__ void operator()(int64_t image, unsigned index) const {
    const int64_t row = index / unsigned(share.packs), c = int64_t(index % unsigned(share.packs)) * N;
    const Channels<T, N> channels(p, image, c);
    float sum_x[N] = {}, sum[N] = {}, sum_noise[N] = {};
    for_pixels(share, row, [&](int64_t pixel) {
      const int64_t at = (image * p.pixels + pixel) * p.c + c;
      const float noise = noise_at(p, image, pixel);
      float source[N], d[N];
      load(g.sign_source + at, source);
      load(g.dy + at, d);
      for (int i = 0; i < N; ++i) {
        d[i] *= channels.slope(p.scale ? channels.v(source[i], i, noise) : source[i]);
        sum_x[i] += d[i] * source[i];
        sum[i] += d[i];
        sum_noise[i] += d[i] * noise;
        d[i] *= channels.scale[i];
      }
      store(g.dx + at, d);
    });
    float* out = partial + (image * share.rows + row) * 3 * p.c + c;
    for (int i = 0; i < N; ++i) out[i] = sum_x[i], out[p.c + i] = sum[i], out[2 * p.c + i] = sum_noise[i];
  }
};

// partial [images, rows, 1, c]: sums of gdx * d.
template <typename T, int N>
struct GradGrad {
  FusedBiasAct<T> p;
  FusedBiasActGradGrad<T> g;
  Share share;
  float* partial;

  __host__ __device__ void operator()(int64_t image, unsigned index) const {
    const int64_t row = index / unsigned(share.packs), c = int64_t(index % unsigned(share.packs)) * N;
    const Channels<T, N> channels(p, image, c);
    const float gdstrength = g.gdstrength ? to_float(*g.gdstrength) : 0;
    float gdscale[N], gdbias[N], sums[N] = {};
    load_or(p.scale ? g.gdscale : nullptr, image * p.c + c, 0.0f, gdscale);
    load_or(g.gdbias, c, 0.0f, gdbias);
    for_pixels(share, row, [&](int64_t pixel) {
      const int64_t at = (image * p.pixels + pixel) * p.c + c;
      const float noise = noise_at(p, image, pixel);
      float source[N], gdx[N], d[N] = {};
      load(g.sign_source + at, source);
      load(g.gdx + at, gdx);
      if (p.scale) load(g.dy + at, d);
      for (int i = 0; i < N; ++i) {
        const float slope = channels.slope(p.scale ? channels.v(source[i], i, noise) : source[i]);
        const float through_scale = p.scale ? gdscale[i] * source[i] : 0;
        d[i] *= slope;
        sums[i] += gdx[i] * d[i];
        gdx[i] = slope * (gdx[i] * channels.scale[i] + through_scale + gdbias[i] + noise * gdstrength);
        d[i] *= gdscale[i];
      }
      store(g.ddy + at, gdx);
      if (p.scale) store(g.dx + at, d);
    });
    for (int i = 0; i < N && p.scale; ++i) partial[(image * share.rows + row) * p.c + c + i] = sums[i];
  }
};

// out[image, row, i] = sum of up to kPixels rows of in[image, ., i].
struct AddRows {
  const float* in;
  float* out;
  int64_t rows, width;

  __host__ __device__ void operator()(int64_t image, unsigned index) const {
    const int64_t row = index / unsigned(width), i = index % unsigned(width), first = row * kPixels;
    float sum = 0;
    for (int64_t r = first; r < first + kPixels && r < rows; ++r) sum += in[(image * rows + r) * width + i];
    out[(image * ((rows + kPixels - 1) / kPixels) + row) * width + i] = sum;
  }
};

// out[image, index] = in[image, index], rows `from` and `to` elements apart.
template <typename T>
struct Convert {
  const float* in;
  T* out;
  int64_t from, to;

  __host__ __device__ void operator()(int64_t image, unsigned index) const {
    out[image * to + index] = from_float<T>(in[image * from + index]);
  }
};

// Adds up the rows of every image, back and forth between two halves of the workspace. The result is [images, width].
struct Adder {
  float* values;
  float* spare;
  cudaStream_t stream;
  int error;

  void add(int64_t images, int64_t rows, int64_t width) {
    while (rows > 1 && !error) {
      const int64_t fewer = (rows + kPixels - 1) / kPixels;
      error = launch(AddRows{values, spare, rows, width}, images, fewer * width, stream);
      std::swap(values, spare);
      rows = fewer;
    }
  }

  template <typename T>
  void write(const float* sums, T* result, int64_t images, int64_t width, int64_t stride) {
    if (result && !error) error = launch(Convert<T>{sums, result, stride, width}, images, width, stream);
  }
};

// Images that share what varies from image to image are one.
template <typename T>
FusedBiasAct<T> merged(FusedBiasAct<T> p) {
  if (!p.scale && p.pixels == 1) p.pixels = p.n, p.n = 1;
  return p;
}

int64_t spare_offset(int64_t n, int64_t rows, int64_t c) { return n * rows * 3 * c; }

template <typename T, int N>
int grad(const FusedBiasAct<T>& given, const FusedBiasActGrad<T>& g, float* workspace, cudaStream_t stream) {
  const FusedBiasAct<T> p = merged(given);
  const Share share(p.pixels, p.c / N);
  Adder adder = {workspace, workspace + spare_offset(p.n, share.rows, p.c), stream, 0};
  adder.error = launch(Grad<T, N>{p, g, share, workspace}, p.n, share.rows * share.packs, stream);
  adder.add(p.n, share.rows, 3 * p.c);
  adder.write(adder.values, g.dscale, p.n, p.c, 3 * p.c);
  adder.add(1, p.n, 3 * p.c);
  adder.write(adder.values + p.c, g.dbias, 1, p.c, 0);
  if (!g.dstrength || adder.error) return adder.error;
  adder.error = launch(Convert<float>{adder.values + 2 * p.c, adder.spare, 0, p.c}, 1, p.c, stream);
  std::swap(adder.values, adder.spare);
  adder.add(1, p.c, 1);
  adder.write(adder.values, g.dstrength, 1, 1, 0);
  return adder.error;
}

template <typename T, int N>
int grad_grad(const FusedBiasAct<T>& given, const FusedBiasActGradGrad<T>& g, float* workspace, cudaStream_t stream) {
  const FusedBiasAct<T> p = merged(given);
  const Share share(p.pixels, p.c / N);
  Adder adder = {workspace, workspace + spare_offset(p.n, share.rows, p.c), stream, 0};
  adder.error = launch(GradGrad<T, N>{p, g, share, workspace}, p.n, share.rows * share.packs, stream);
  if (!p.scale) return adder.error;
  adder.add(p.n, share.rows, p.c);
  adder.write(adder.values, g.dscale, p.n, p.c, p.c);
  return adder.error;
}

}  // namespace
}  // namespace dnnlib

extern "C" int64_t dnnlib_fused_bias_act_workspace(int64_t n, int64_t pixels, int64_t c) {
  using dnnlib::Share;
  int64_t rows = n * Share(pixels, c).rows;
  for (int pack : {1, 4, 8}) {
    rows = std::max(rows, n * Share(pixels, c / pack).rows);
    if (pixels == 1) rows = std::max(rows, Share(n, c / pack).rows);
  }
  return rows * 3 * c * 2 + n * 3 * c;
}

extern "C" int dnnlib_fused_bias_act_cuda(int type, const dnnlib::FusedBiasAct<void>* p, const void* x, void* y,
                                          DnnlibStream stream) {
  return dnnlib::for_type(type, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    constexpr int wide = 16 / sizeof(T);
    const auto& typed = dnnlib::typed<T>(p);
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    return dnnlib::packs<T>(p->c, {x, y, p->scale, p->bias})
               ? dnnlib::launch(dnnlib::Forward<T, wide>{typed, in, out}, p->n, p->pixels * (p->c / wide), stream)
               : dnnlib::launch(dnnlib::Forward<T, 1>{typed, in, out}, p->n, p->pixels * p->c, stream);
  });
}

extern "C" int dnnlib_fused_bias_act_grad_cuda(int type, const dnnlib::FusedBiasAct<void>* p,
                                               const dnnlib::FusedBiasActGrad<void>* g, float* workspace,
                                               DnnlibStream stream) {
  return dnnlib::for_type(type, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const auto& typed = *reinterpret_cast<const dnnlib::FusedBiasActGrad<T>*>(g);
    return dnnlib::packs<T>(p->c, {g->dy, g->sign_source, g->dx, p->scale, p->bias})
               ? dnnlib::grad<T, 16 / sizeof(T)>(dnnlib::typed<T>(p), typed, workspace, stream)
               : dnnlib::grad<T, 1>(dnnlib::typed<T>(p), typed, workspace, stream);
  });
}

extern "C" int dnnlib_fused_bias_act_grad_grad_cuda(int type, const dnnlib::FusedBiasAct<void>* p,
                                                    const dnnlib::FusedBiasActGradGrad<void>* g, float* workspace,
                                                    DnnlibStream stream) {
  return dnnlib::for_type(type, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const auto& typed = *reinterpret_cast<const dnnlib::FusedBiasActGradGrad<T>*>(g);
    return dnnlib::packs<T>(p->c, {g->gdx, g->dy, g->sign_source, g->ddy, g->dx, g->gdscale, g->gdbias, p->scale, p->bias})
               ? dnnlib::grad_grad<T, 16 / sizeof(T)>(dnnlib::typed<T>(p), typed, workspace, stream)
               : dnnlib::grad_grad<T, 1>(dnnlib::typed<T>(p), typed, workspace, stream);
  });
}
