// upfirdn_2d without TensorFlow: the same parameters for the CPU kernel, the CUDA launcher and the test drivers.
#ifndef DNNLIB_OPS_NATIVE_UPFIRDN_2D_H_
#define DNNLIB_OPS_NATIVE_UPFIRDN_2D_H_

#include <cstdint>

#include "parallel.h"

namespace dnnlib {

// Images [n, h, w, c] in, [n, out_h, out_w, c] out. `kernel` holds kh taps for the rows and then kw for the columns where
// `separable`, else kh * kw row by row. pad_y and pad_x: zeros before; those after follow from the output's size.
struct Upfirdn2d {
  int64_t n, h, w, c, out_h, out_w;
  int up, down, pad_y, pad_x, kh, kw;
  bool separable;
  const float* kernel;
};

template <typename T>
void upfirdn_2d_cpu(const Upfirdn2d& p, const T* x, T* y, const ParallelFor& parallel_for);

}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_UPFIRDN_2D_H_
