// Plain C launchers of the CUDA kernels: device pointers, sizes, a stream; no TensorFlow. They return a cudaError_t.
//
// Built alone by `nvcc -shared -Xcompiler -fPIC -x cu *.cu.cc`, any program can call them, through ctypes too.
#ifndef DNNLIB_OPS_NATIVE_LAUNCHERS_H_
#define DNNLIB_OPS_NATIVE_LAUNCHERS_H_

#include "fused_bias_act.h"
#include "upfirdn_2d.h"

enum { DNNLIB_FLOAT32 = 0, DNNLIB_FLOAT16 = 1, DNNLIB_BFLOAT16 = 2 };
typedef struct CUstream_st* DnnlibStream;

extern "C" {

const char* dnnlib_cuda_message(int code);

// x and y as in Upfirdn2d, whose `kernel` lies on the host and has at most 512 numbers.
int dnnlib_upfirdn_2d_cuda(int type, const dnnlib::Upfirdn2d* p, const void* x, void* y, DnnlibStream stream);

// p, g: the structures of fused_bias_act.h, whose pointers are void here because all types share one layout.
// workspace: this many floats.
int64_t dnnlib_fused_bias_act_workspace(int64_t n, int64_t pixels, int64_t c);
int dnnlib_fused_bias_act_cuda(int type, const dnnlib::FusedBiasAct<void>* p, const void* x, void* y,
                               DnnlibStream stream);
int dnnlib_fused_bias_act_grad_cuda(int type, const dnnlib::FusedBiasAct<void>* p,
                                    const dnnlib::FusedBiasActGrad<void>* g, float* workspace, DnnlibStream stream);
int dnnlib_fused_bias_act_grad_grad_cuda(int type, const dnnlib::FusedBiasAct<void>* p,
                                         const dnnlib::FusedBiasActGradGrad<void>* g, float* workspace,
                                         DnnlibStream stream);

}  // extern "C"

#endif  // DNNLIB_OPS_NATIVE_LAUNCHERS_H_
