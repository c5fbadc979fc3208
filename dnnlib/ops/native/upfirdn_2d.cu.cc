// upfirdn_2d on the GPU: NHWC, one thread per pack of channels of a few output pixels. No TensorFlow headers.
#include <cuda_runtime.h>

#include "cuda_common.cuh"

namespace dnnlib {
namespace {

constexpr int kMostTaps = 512;  // in the kernel's parameters, which are 4 KB
constexpr int kRows = 4;        // output rows of one thread in the special cases; even

struct Taps {
  float values[kMostTaps];
};

// Any filter, up and down: one output pixel per thread, only the taps that do not meet an inserted zero.
template <typename T, int N>
struct General {
  Upfirdn2d p;
  Taps taps;
  const T* x;
  T* y;

  __host__ __device__ float tap(int ky, int kx) const {
    return p.separable ? taps.values[ky] * taps.values[p.kh + kx] : taps.values[ky * p.kw + kx];
  }

  // The first tap of an axis and the input it meets; further taps are `up` apart and meet earlier inputs.
  __host__ __device__ static void first(int64_t out, int down, int up, int taps, int pad, int* tap, int64_t* in) {
    const int64_t base = out * down + taps - 1 - pad;
    *tap = int((base % up + up) % up);
    *in = (base - *tap) / up;
  }

  __host__ __device__ void operator()(int64_t image, unsigned index) const {
    const unsigned packs = unsigned(p.c / N), pixel = index / packs;
    const int64_t c = int64_t(index % packs) * N, out_x = pixel % unsigned(p.out_w), out_y = pixel / unsigned(p.out_w);
    int tap_y, tap_x;
    int64_t in_y, in_x;
    first(out_y, p.down, p.up, p.kh, p.pad_y, &tap_y, &in_y);
    first(out_x, p.down, p.up, p.kw, p.pad_x, &tap_x, &in_x);
    float sum[N] = {};
    for (int64_t row = in_y, ky = tap_y; ky < p.kh && row >= 0; ky += p.up, --row) {
      if (row >= p.h) continue;
      for (int64_t column = in_x, kx = tap_x; kx < p.kw && column >= 0; kx += p.up, --column) {
        if (column >= p.w) continue;
        float v[N];
        load(x + ((image * p.h + row) * p.w + column) * p.c + c, v);
        const float f = tap(int(ky), int(kx));
        for (int i = 0; i < N; ++i) sum[i] += f * v[i];
      }
    }
    store(y + ((image * p.out_h + out_y) * p.out_w + out_x) * p.c + c, sum);
  }
};

// Four separable taps with up 2, down 2 or neither: kRows output rows of one column per thread. Each input row is
// filtered horizontally once and then added to every output row that it reaches.
template <typename T, int N, int UP, int DOWN>
struct FourTaps {
  static constexpr int kIn = UP == 2 ? kRows / 2 + 1 : (kRows - 1) * DOWN + 4;   // input rows
  static constexpr int kAcross = UP == 2 ? 2 : 4;                                // input columns
  Upfirdn2d p;
  float fy[4], fx[4];
  const T* x;
  T* y;

  // With up 2 a thread's rows begin where the first needs the same input rows as the second.
  __host__ __device__ int64_t odd() const { return UP == 2 && p.pad_y % 2 == 0; }
  __host__ __device__ int64_t groups() const { return (p.out_h + odd() + kRows - 1) / kRows; }

  // The tap that input row u gives to output row r, or -1.
  __host__ __device__ static constexpr int tap(int r, int u) {
    return UP == 2 ? (u - r / 2 == 0 ? 2 + r % 2 : u - r / 2 == 1 ? r % 2 : -1)
                   : (u - r * DOWN >= 0 && u - r * DOWN < 4 ? 3 - (u - r * DOWN) : -1);
  }

  __host__ __device__ void operator()(int64_t image, unsigned index) const {
    const unsigned packs = unsigned(p.c / N), column = index / packs;
    const int64_t c = int64_t(index % packs) * N, out_x = column % unsigned(p.out_w);
    const int64_t top = int64_t(column / unsigned(p.out_w)) * kRows - odd();
    const int64_t base = out_x + 3 - p.pad_x;  // of up 2: tap = base - 2 * input
    const int phase = int(base & 1);
    const int64_t left = UP == 2 ? ((base - phase) >> 1) - 1 : out_x * DOWN - p.pad_x;
    const int64_t above = UP == 2 ? ((top + 3 - p.pad_y) >> 1) - 1 : top * DOWN - p.pad_y;
    float across[kAcross], sum[kRows][N] = {};
#pragma unroll
    for (int k = 0; k < kAcross; ++k) {
      across[k] = UP == 2 ? (phase ? fx[3 - 2 * (k % 2)] : fx[2 - 2 * (k % 2)]) : fx[3 - k];
    }
#pragma unroll
    for (int u = 0; u < kIn; ++u) {
      if (above + u < 0 || above + u >= p.h) continue;
      float row[N] = {};
#pragma unroll
      for (int k = 0; k < kAcross; ++k) {
        if (left + k < 0 || left + k >= p.w) continue;
        float v[N];
        load(x + ((image * p.h + above + u) * p.w + left + k) * p.c + c, v);
        for (int i = 0; i < N; ++i) row[i] += across[k] * v[i];
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int t = tap(r, u);
        if (t < 0) continue;
        for (int i = 0; i < N; ++i) sum[r][i] += fy[t] * row[i];
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (top + r < 0 || top + r >= p.out_h) continue;
      store(y + ((image * p.out_h + top + r) * p.out_w + out_x) * p.c + c, sum[r]);
    }
  }
};

template <int UP, int DOWN, int N, typename T>
int four_taps(const Upfirdn2d& p, const T* x, T* y, cudaStream_t stream) {
  FourTaps<T, N, UP, DOWN> f = {p, {}, {}, x, y};
  for (int k = 0; k < 4; ++k) f.fy[k] = p.kernel[k], f.fx[k] = p.kernel[4 + k];
  return launch(f, p.n, f.groups() * p.out_w * (p.c / N), stream);
}

template <int N, typename T>
int run(const Upfirdn2d& p, const T* x, T* y, cudaStream_t stream) {
  if (p.separable && p.kh == 4 && p.kw == 4 && p.up * p.down <= 2) {
    if (p.up == 2) return four_taps<2, 1, N>(p, x, y, stream);
    if (p.down == 2) return four_taps<1, 2, N>(p, x, y, stream);
    return four_taps<1, 1, N>(p, x, y, stream);
  }
  const int count = p.separable ? p.kh + p.kw : p.kh * p.kw;
  if (count > kMostTaps) return cudaErrorInvalidValue;
  General<T, N> f = {p, {}, x, y};
  std::copy_n(p.kernel, count, f.taps.values);
  return launch(f, p.n, p.out_h * p.out_w * (p.c / N), stream);
}

}  // namespace
}  // namespace dnnlib

extern "C" const char* dnnlib_cuda_message(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

extern "C" int dnnlib_upfirdn_2d_cuda(int type, const dnnlib::Upfirdn2d* p, const void* x, void* y,
                                      DnnlibStream stream) {
  return dnnlib::for_type(type, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    constexpr int wide = 16 / sizeof(T);
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    return dnnlib::packs<T>(p->c, {x, y}) ? dnnlib::run<wide>(*p, in, out, stream) : dnnlib::run<1>(*p, in, out, stream);
  });
}
