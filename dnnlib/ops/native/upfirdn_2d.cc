// The TensorFlow op DnnlibUpfirdn2D: attributes, shape, and the kernels of upfirdn_2d.h on CPU and GPU.
#include "upfirdn_2d.h"

#include <type_traits>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow_glue.h"

namespace dnnlib {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Status;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// The op's attributes, checked. `Source` is an OpKernelConstruction or an InferenceContext.
struct Attributes {
  int up, down;
  bool separable;
  std::vector<int> size, pad;  // [rows, columns] of the filter; [top, bottom, left, right]
  std::vector<float> kernel;

  template <typename Source>
  Status read(Source* source) {
    TF_RETURN_IF_ERROR(source->GetAttr("up", &up));
    TF_RETURN_IF_ERROR(source->GetAttr("down", &down));
    TF_RETURN_IF_ERROR(source->GetAttr("separable", &separable));
    TF_RETURN_IF_ERROR(source->GetAttr("kernel_size", &size));
    TF_RETURN_IF_ERROR(source->GetAttr("pad", &pad));
    TF_RETURN_IF_ERROR(source->GetAttr("kernel", &kernel));
    return check();
  }

  Status check() const {
    if (up < 1 || down < 1) return InvalidArgument("up and down must be at least 1, got ", up, " and ", down);
    if (pad.size() != 4) return InvalidArgument("pad must be 4 numbers, got ", pad.size());
    if (size.size() != 2 || size[0] < 1 || size[1] < 1) {
      return InvalidArgument("kernel_size must be 2 positive numbers, got ", size.size(), ": ",
                             size.size() > 0 ? size[0] : 0, ", ", size.size() > 1 ? size[1] : 0);
    }
    const int64_t taps = separable ? int64_t(size[0]) + size[1] : int64_t(size[0]) * size[1];
    if (int64_t(kernel.size()) == taps) return tensorflow::OkStatus();
    return InvalidArgument("a ", separable ? "separable " : "", size[0], "x", size[1], " kernel has ", taps,
                           " numbers, got ", kernel.size());
  }

  // The result's size along axis 0 (rows) or 1 (columns).
  Status result_size(int64_t in, int axis, int64_t* out) const {
    const int64_t padded = in * up + pad[2 * axis] + pad[2 * axis + 1];
    *out = padded < size[axis] ? 0 : (padded - size[axis]) / down + 1;
    if (*out > 0) return tensorflow::OkStatus();
    return InvalidArgument("x of size ", in, " along axis ", axis + 1, ", times up ", up, " and padded by ", pad[2 * axis],
                           " and ", pad[2 * axis + 1], ", is ", padded, " and smaller than the kernel's ", size[axis],
                           ": nothing is left");
  }
};

Status infer_shape(InferenceContext* ctx) {
  Attributes attributes;
  TF_RETURN_IF_ERROR(attributes.read(ctx));
  ShapeHandle x;
  TF_RETURN_IF_ERROR(ctx->WithRank(ctx->input(0), 4, &x));
  std::vector<DimensionHandle> dims = {ctx->Dim(x, 0), ctx->UnknownDim(), ctx->UnknownDim(), ctx->Dim(x, 3)};
  for (int axis = 0; axis < 2; ++axis) {
    if (!ctx->ValueKnown(ctx->Dim(x, axis + 1))) continue;
    int64_t out;
    TF_RETURN_IF_ERROR(attributes.result_size(ctx->Value(ctx->Dim(x, axis + 1)), axis, &out));
    dims[axis + 1] = ctx->MakeDim(out);
  }
  ctx->set_output(0, ctx->MakeShape(dims));
  return tensorflow::OkStatus();
}

REGISTER_OP("DnnlibUpfirdn2D")
    .Input("x: T")
    .Output("y: T")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("kernel: list(float)")
    .Attr("kernel_size: list(int)")
    .Attr("separable: bool")
    .Attr("up: int = 1")
    .Attr("down: int = 1")
    .Attr("pad: list(int)")
    .SetShapeFn(infer_shape)
    .Doc("Zero insertion, padding, convolution with a fixed filter and decimation of x [N, H, W, C].");

template <typename T>
void launch(OpKernelContext* ctx, const Upfirdn2d& p, const T* x, T* y, std::false_type) {
  upfirdn_2d_cpu(p, x, y, parallel_for(ctx));
}

#ifdef DNNLIB_CUDA
template <typename T>
void launch(OpKernelContext* ctx, const Upfirdn2d& p, const T* x, T* y, std::true_type) {
  OP_REQUIRES_OK(ctx, cuda_status(dnnlib_upfirdn_2d_cuda(type_code<T>(), &p, x, y, stream(ctx))));
}
#endif

template <typename T, bool GPU>
class Upfirdn2DOp : public tensorflow::OpKernel {
 public:
  explicit Upfirdn2DOp(tensorflow::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read(ctx));
  }

  void Compute(OpKernelContext* ctx) override {
    const tensorflow::Tensor& x = ctx->input(0);
    OP_REQUIRES(ctx, x.dims() == 4, InvalidArgument("x must be [N, H, W, C], got ", x.shape().DebugString()));
    Upfirdn2d p = {x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3), 0, 0, attributes_.up, attributes_.down,
                   attributes_.pad[0], attributes_.pad[2], attributes_.size[0], attributes_.size[1],
                   attributes_.separable, attributes_.kernel.data()};
    OP_REQUIRES_OK(ctx, attributes_.result_size(p.h, 0, &p.out_h));
    OP_REQUIRES_OK(ctx, attributes_.result_size(p.w, 1, &p.out_w));
    tensorflow::Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {p.n, p.out_h, p.out_w, p.c}, &y));
    if (y->NumElements()) launch(ctx, p, data<T>(x), data<T>(y), std::integral_constant<bool, GPU>());
  }

 private:
  Attributes attributes_;
};

DNNLIB_REGISTER_KERNELS("DnnlibUpfirdn2D", Upfirdn2DOp)

}  // namespace
}  // namespace dnnlib
