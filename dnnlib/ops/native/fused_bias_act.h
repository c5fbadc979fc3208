// fused_bias_act and its derivatives without TensorFlow, for the CPU kernels, the CUDA launchers and the test drivers.
//
//   v = x * scale + noise * strength + bias,   y = v > 0 ? gain * v : gain * alpha * v
#ifndef DNNLIB_OPS_NATIVE_FUSED_BIAS_ACT_H_
#define DNNLIB_OPS_NATIVE_FUSED_BIAS_ACT_H_

#include <cstdint>

#include "parallel.h"

namespace dnnlib {

// What v is made of. Absent tensors are null. Layouts: x [n, pixels, c], scale [n, c], noise [n or 1, pixels] (then
// noise_stride is 0), strength [1], bias [c].
template <typename T>
struct FusedBiasAct {
  int64_t n, pixels, c;
  const T* scale;
  const T* noise;
  const T* strength;
  const T* bias;
  int64_t noise_stride;
  float alpha, gain;
};

// First derivatives. `ref` tells the sign of v: it is x where there is a scale (whose derivative needs x anyway), else y.
// dscale, dbias and dstrength are null where the tensor is.
template <typename T>
struct FusedBiasActGrad {
  const T* dy;
  const T* ref;
  T* dx;
  T* dscale;
  T* dbias;
  T* dstrength;
};

// Derivatives of <gdx, dx> + <gdscale, dscale> + <gdbias, dbias> + gdstrength * dstrength with respect to dy, and, where
// there is a scale, to x and scale (else gdscale, dx and dscale are null).
template <typename T>
struct FusedBiasActGradGrad {
  const T* gdx;
  const T* gdscale;
  const T* gdbias;
  const T* gdstrength;
  const T* dy;
  const T* ref;
  T* ddy;
  T* dx;
  T* dscale;
};

template <typename T>
void fused_bias_act_cpu(const FusedBiasAct<T>& p, const T* x, T* y, const ParallelFor& parallel_for);
template <typename T>
void fused_bias_act_grad_cpu(const FusedBiasAct<T>& p, const FusedBiasActGrad<T>& g, const ParallelFor& parallel_for);
template <typename T>
void fused_bias_act_grad_grad_cpu(const FusedBiasAct<T>& p, const FusedBiasActGradGrad<T>& g,
                                  const ParallelFor& parallel_for);

}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_FUSED_BIAS_ACT_H_
