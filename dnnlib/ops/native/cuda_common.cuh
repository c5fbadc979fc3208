// What the CUDA kernels share. Every kernel is a functor called with (image, index): one thread each on a GPU.
//
// With DNNLIB_ON_HOST defined the same functors run in a plain loop on the processor, on host memory: that is how the
// tests check the arithmetic of the launchers and kernels on machines without a GPU.
#ifndef DNNLIB_OPS_NATIVE_CUDA_COMMON_CUH_
#define DNNLIB_OPS_NATIVE_CUDA_COMMON_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>

#include "launchers.h"

#define DNNLIB_DEVICE __host__ __device__ __forceinline__

namespace dnnlib {

constexpr int kThreads = 256;

DNNLIB_DEVICE float to_float(float v) { return v; }
DNNLIB_DEVICE float to_float(__half v) { return __half2float(v); }
DNNLIB_DEVICE float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
template <typename T>
DNNLIB_DEVICE T from_float(float v);
template <>
DNNLIB_DEVICE float from_float<float>(float v) { return v; }
template <>
DNNLIB_DEVICE __half from_float<__half>(float v) { return __float2half_rn(v); }
template <>
DNNLIB_DEVICE __nv_bfloat16 from_float<__nv_bfloat16>(float v) { return __float2bfloat16_rn(v); }

// N channels, loaded and stored by one instruction and computed with as floats.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <int N, typename T>
DNNLIB_DEVICE void load(const T* p, float (&values)[N]) {
  const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(p);
  for (int i = 0; i < N; ++i) values[i] = to_float(pack.values[i]);
}

template <int N, typename T>
DNNLIB_DEVICE void load_or(const T* p, int64_t offset, float absent, float (&values)[N]) {
  if (p) return load(p + offset, values);
  for (int i = 0; i < N; ++i) values[i] = absent;
}

template <int N, typename T>
DNNLIB_DEVICE void store(T* p, const float (&values)[N]) {
  Pack<T, N> pack;
  for (int i = 0; i < N; ++i) pack.values[i] = from_float<T>(values[i]);
  *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

template <typename F>
__global__ void __launch_bounds__(kThreads) each(F f, int64_t images, unsigned count) {
  const unsigned index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= count) return;
  for (int64_t image = blockIdx.y; image < images; image += gridDim.y) f(image, index);
}

// Runs f(image, index) for index in 0..count of every image.
template <typename F>
int launch(const F& f, int64_t images, int64_t count, cudaStream_t stream) {
  if (images == 0 || count == 0) return cudaSuccess;
  if (count >= int64_t(1) << 31) return cudaErrorInvalidValue;
#ifdef DNNLIB_ON_HOST
  for (int64_t image = 0; image < images; ++image) {
    for (int64_t index = 0; index < count; ++index) f(image, unsigned(index));
  }
  return cudaSuccess;
#else
  const dim3 grid(unsigned((count + kThreads - 1) / kThreads), unsigned(std::min<int64_t>(images, 65535)));
  each<<<grid, kThreads, 0, stream>>>(f, images, unsigned(count));
  return cudaGetLastError();
#endif
}

// 16 bytes' worth of channels where every pixel begins on such a border, else one channel.
template <typename T>
bool packs(int64_t channels, std::initializer_list<const void*> pointers) {
  bool aligned = channels % (16 / sizeof(T)) == 0;
  for (const void* p : pointers) aligned = aligned && reinterpret_cast<uintptr_t>(p) % 16 == 0;
  return aligned;
}

// Calls f with a null pointer of the type that the code means.
template <typename F>
int for_type(int type, const F& f) {
  switch (type) {
    case DNNLIB_FLOAT32: return f(static_cast<float*>(nullptr));
    case DNNLIB_FLOAT16: return f(static_cast<__half*>(nullptr));
    case DNNLIB_BFLOAT16: return f(static_cast<__nv_bfloat16*>(nullptr));
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_CUDA_COMMON_CUH_
