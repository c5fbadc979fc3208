// fused_bias_act and its derivatives without TensorFlow, for the CPU kernels, the CUDA launchers and the test drivers.
//
//   v = x * scale + noise * strength + bias,   y = v > 0 ? gain * v : gain * alpha * v
//
// Tensors have one order everywhere, in the ops, in Python and here: x, bias, scale, noise, strength.
#ifndef DNNLIB_OPS_NATIVE_FUSED_BIAS_ACT_H_
#define DNNLIB_OPS_NATIVE_FUSED_BIAS_ACT_H_

#include <cstdint>

#include "parallel.h"

namespace dnnlib {

// What v is made of. Absent tensors are null. Layouts: x [n, pixels, c], bias [c], scale [n, c], noise [n or 1, pixels]
// (then noise_stride is 0), strength [1].
template <typename T>
struct FusedBiasAct {
  int64_t n, pixels, c;
  const T* bias;
  const T* scale;
  const T* noise;
  const T* strength;
  int64_t noise_stride;
  float alpha, gain;
};

// First derivatives. `sign_source` tells the sign of v: it is x where there is a scale (whose derivative needs x anyway), else y.
// dbias, dscale and dstrength are null where the tensor is.
template <typename T>
struct FusedBiasActGrad {
  const T* dy;
  const T* sign_source;
  T* dx;
  T* dbias;
  T* dscale;
  T* dstrength;
};

// Derivatives of <gdx, dx> + <gdbias, dbias> + <gdscale, dscale> + gdstrength * dstrength with respect to dy, and, where
// there is a scale, to x and scale (else gdscale, dx and dscale are null).
template <typename T>
struct FusedBiasActGradGrad {
  const T* gdx;
  const T* gdbias;
  const T* gdscale;
  const T* gdstrength;
  const T* dy;
  const T* sign_source;
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
