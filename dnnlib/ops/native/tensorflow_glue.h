// What the registrations share: TensorFlow's threads and, in a CUDA build, its stream and the launchers' type codes.
#ifndef DNNLIB_OPS_NATIVE_TENSORFLOW_GLUE_H_
#define DNNLIB_OPS_NATIVE_TENSORFLOW_GLUE_H_

#include "tensorflow/core/framework/op_kernel.h"

#ifdef DNNLIB_CUDA
#include "launchers.h"
#include "xla/stream_executor/stream.h"
#endif

#include "parallel.h"

namespace dnnlib {

// The op's share of TensorFlow's own worker threads.
inline ParallelFor parallel_for(tensorflow::OpKernelContext* ctx) {
  auto* workers = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  return [workers](int64_t total, int64_t cost, const std::function<void(int64_t, int64_t)>& work) {
    workers->ParallelFor(total, cost, work);
  };
}

template <typename T>
const T* data(const tensorflow::Tensor& tensor) {
  return tensor.NumElements() ? tensor.flat<T>().data() : nullptr;
}

template <typename T>
T* data(tensorflow::Tensor* tensor) {
  return tensor->NumElements() ? tensor->flat<T>().data() : nullptr;
}

#ifdef DNNLIB_CUDA
inline DnnlibStream stream(tensorflow::OpKernelContext* ctx) {
  return static_cast<DnnlibStream>(ctx->op_device_context()->stream()->platform_specific_handle().stream);
}

template <typename T>
int type_code();
template <>
inline int type_code<float>() { return DNNLIB_FLOAT32; }
template <>
inline int type_code<Eigen::half>() { return DNNLIB_FLOAT16; }
template <>
inline int type_code<Eigen::bfloat16>() { return DNNLIB_BFLOAT16; }

inline tensorflow::Status cuda_status(int code) {
  if (!code) return tensorflow::OkStatus();
  return tensorflow::errors::Internal("a CUDA kernel of dnnlib could not be launched: ", dnnlib_cuda_message(code));
}
#endif

// Registers OP<T, GPU> as the kernel of the op NAME for every type and device there is code for.
#define DNNLIB_REGISTER_KERNEL(NAME, OP, T, DEVICE, GPU) \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(tensorflow::DEVICE).TypeConstraint<T>("T"), OP<T, GPU>);
#define DNNLIB_REGISTER_CPU_KERNELS(NAME, OP)                 \
  DNNLIB_REGISTER_KERNEL(NAME, OP, float, DEVICE_CPU, false)  \
  DNNLIB_REGISTER_KERNEL(NAME, OP, double, DEVICE_CPU, false)
#ifdef DNNLIB_CUDA
#define DNNLIB_REGISTER_KERNELS(NAME, OP)                              \
  DNNLIB_REGISTER_CPU_KERNELS(NAME, OP)                                \
  DNNLIB_REGISTER_KERNEL(NAME, OP, float, DEVICE_GPU, true)            \
  DNNLIB_REGISTER_KERNEL(NAME, OP, Eigen::half, DEVICE_GPU, true)      \
  DNNLIB_REGISTER_KERNEL(NAME, OP, Eigen::bfloat16, DEVICE_GPU, true)
#else
#define DNNLIB_REGISTER_KERNELS(NAME, OP) DNNLIB_REGISTER_CPU_KERNELS(NAME, OP)
#endif

}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_TENSORFLOW_GLUE_H_
