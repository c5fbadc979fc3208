// The TensorFlow ops DnnlibFusedBiasAct, ...Grad and ...GradGrad: shapes, and the kernels of fused_bias_act.h.
//
// A tensor that is not used (bias, scale, noise, strength, and what belongs to them) is passed as an empty [0].
#include "fused_bias_act.h"

#include <type_traits>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow_glue.h"

namespace dnnlib {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Status;
using tensorflow::Tensor;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

bool absent(const Tensor& tensor) { return tensor.dims() == 1 && tensor.dim_size(0) == 0; }

template <typename T>
const T* present(const Tensor& tensor) { return absent(tensor) ? nullptr : data<T>(tensor); }

Status mismatch(const char* name, const Tensor& tensor, const char* wanted, const Tensor& x) {
  return InvalidArgument(name, " must be ", wanted, " for x ", x.shape().DebugString(), ", got ",
                         tensor.shape().DebugString());
}

// Whether the small tensors fit x, and what the kernels need to know of them.
template <typename T>
Status describe(const Tensor& x, const Tensor& bias, const Tensor& scale, const Tensor& noise, const Tensor& strength,
                FusedBiasAct<T>* p) {
  if (x.dims() != 2 && x.dims() != 4) return InvalidArgument("x must be [N, C] or [N, H, W, C], got ", x.shape().DebugString());
  p->n = x.dim_size(0);
  p->pixels = x.dims() == 4 ? x.dim_size(1) * x.dim_size(2) : 1;
  p->c = x.dim_size(x.dims() - 1);
  if (!absent(bias) && bias.shape() != tensorflow::TensorShape({p->c})) return mismatch("bias", bias, "[C]", x);
  if (!absent(scale) && scale.shape() != tensorflow::TensorShape({p->n, p->c})) return mismatch("scale", scale, "[N, C]", x);
  if (absent(noise) != absent(strength)) return InvalidArgument("noise and strength go together");
  if (!absent(noise)) {
    if (strength.dims() != 0) return mismatch("strength", strength, "a scalar", x);
    if (x.dims() != 4 || noise.dims() != 4 || (noise.dim_size(0) != 1 && noise.dim_size(0) != p->n) ||
        noise.dim_size(1) != x.dim_size(1) || noise.dim_size(2) != x.dim_size(2) || noise.dim_size(3) != 1) {
      return mismatch("noise", noise, "[N or 1, H, W, 1]", x);
    }
    p->noise_stride = noise.dim_size(0) == 1 ? 0 : p->pixels;
  }
  p->bias = present<T>(bias), p->scale = present<T>(scale);
  p->noise = present<T>(noise), p->strength = present<T>(strength);
  return tensorflow::OkStatus();
}

Status same_shape(const char* name, const Tensor& tensor, const Tensor& x) {
  return tensor.shape() == x.shape() ? tensorflow::OkStatus() : mismatch(name, tensor, "of x's shape", x);
}

// The outputs' shapes are those of these inputs; the first is x or what has its shape.
template <int... INPUTS>
Status infer_shapes(InferenceContext* ctx) {
  ShapeHandle x;
  TF_RETURN_IF_ERROR(ctx->WithRankAtLeast(ctx->input(0), 2, &x));
  TF_RETURN_IF_ERROR(ctx->WithRankAtMost(x, 4, &x));
  int output = 0;
  (ctx->set_output(output++, ctx->input(INPUTS)), ...);
  return tensorflow::OkStatus();
}

#define ATTRIBUTES                              \
  .Attr("T: {float, double, half, bfloat16}")   \
  .Attr("alpha: float")                         \
  .Attr("gain: float")

REGISTER_OP("DnnlibFusedBiasAct")
    .Input("x: T").Input("bias: T").Input("scale: T").Input("noise: T").Input("strength: T")
    .Output("y: T")
    ATTRIBUTES
    .SetShapeFn(infer_shapes<0>)
    .Doc("gain * leaky_relu(x * scale + noise * strength + bias, alpha).");

REGISTER_OP("DnnlibFusedBiasActGrad")
    .Input("dy: T").Input("sign_source: T").Input("bias: T").Input("scale: T").Input("noise: T").Input("strength: T")
    .Output("dx: T").Output("dbias: T").Output("dscale: T").Output("dstrength: T")
    ATTRIBUTES
    .SetShapeFn(infer_shapes<0, 2, 3, 5>)
    .Doc("Derivatives of DnnlibFusedBiasAct; `sign_source` is its x where there is a scale, else its y.");

REGISTER_OP("DnnlibFusedBiasActGradGrad")
    .Input("gdx: T").Input("gdbias: T").Input("gdscale: T").Input("gdstrength: T")
    .Input("dy: T").Input("sign_source: T").Input("bias: T").Input("scale: T").Input("noise: T").Input("strength: T")
    .Output("ddy: T").Output("dx: T").Output("dscale: T")
    ATTRIBUTES
    .SetShapeFn([](InferenceContext* ctx) {
      TF_RETURN_IF_ERROR((infer_shapes<0, 0, 7>(ctx)));
      const ShapeHandle scale = ctx->input(7);
      const bool known = ctx->RankKnown(scale);
      if (!known) ctx->set_output(1, ctx->UnknownShape());
      else if (ctx->Rank(scale) == 1) ctx->set_output(1, scale);
      return tensorflow::OkStatus();
    })
    .Doc("Derivatives of DnnlibFusedBiasActGrad with respect to dy, x and scale; the last two empty without a scale.");

template <typename T>
void forward(OpKernelContext* ctx, const FusedBiasAct<T>& p, const T* x, T* y, std::false_type) {
  fused_bias_act_cpu(p, x, y, parallel_for(ctx));
}

template <typename T>
void grad(OpKernelContext* ctx, const FusedBiasAct<T>& p, const FusedBiasActGrad<T>& g, std::false_type) {
  fused_bias_act_grad_cpu(p, g, parallel_for(ctx));
}

template <typename T>
void grad_grad(OpKernelContext* ctx, const FusedBiasAct<T>& p, const FusedBiasActGradGrad<T>& g, std::false_type) {
  fused_bias_act_grad_grad_cpu(p, g, parallel_for(ctx));
}

#ifdef DNNLIB_CUDA
template <template <typename> class S, typename T>
const S<void>* untyped(const S<T>& s) { return reinterpret_cast<const S<void>*>(&s); }

template <typename T>
Status workspace(OpKernelContext* ctx, const FusedBiasAct<T>& p, Tensor* floats) {
  return ctx->allocate_temp(tensorflow::DT_FLOAT, {dnnlib_fused_bias_act_workspace(p.n, p.pixels, p.c)}, floats);
}

template <typename T>
void forward(OpKernelContext* ctx, const FusedBiasAct<T>& p, const T* x, T* y, std::true_type) {
  OP_REQUIRES_OK(ctx, cuda_status(dnnlib_fused_bias_act_cuda(type_code<T>(), untyped(p), x, y, stream(ctx))));
}

template <typename T>
void grad(OpKernelContext* ctx, const FusedBiasAct<T>& p, const FusedBiasActGrad<T>& g, std::true_type) {
  Tensor floats;
  OP_REQUIRES_OK(ctx, workspace(ctx, p, &floats));
  OP_REQUIRES_OK(ctx, cuda_status(dnnlib_fused_bias_act_grad_cuda(type_code<T>(), untyped(p), untyped(g),
                                                                  data<float>(&floats), stream(ctx))));
}

template <typename T>
void grad_grad(OpKernelContext* ctx, const FusedBiasAct<T>& p, const FusedBiasActGradGrad<T>& g, std::true_type) {
  Tensor floats;
  OP_REQUIRES_OK(ctx, workspace(ctx, p, &floats));
  OP_REQUIRES_OK(ctx, cuda_status(dnnlib_fused_bias_act_grad_grad_cuda(type_code<T>(), untyped(p), untyped(g),
                                                                       data<float>(&floats), stream(ctx))));
}
#endif

class FusedOp : public tensorflow::OpKernel {
 public:
  explicit FusedOp(tensorflow::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("alpha", &alpha_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("gain", &gain_));
    OP_REQUIRES(ctx, alpha_ >= 0, InvalidArgument("alpha must be at least 0, got ", alpha_));
    OP_REQUIRES(ctx, gain_ > 0, InvalidArgument("gain must be above 0, got ", gain_));
  }

 protected:
  // Describes x (or what has its shape) and the four small tensors from input `first` on.
  template <typename T>
  Status read(OpKernelContext* ctx, const Tensor& x, int first, FusedBiasAct<T>* p) const {
    *p = FusedBiasAct<T>{};
    p->alpha = alpha_, p->gain = gain_;
    return describe(x, ctx->input(first), ctx->input(first + 1), ctx->input(first + 2), ctx->input(first + 3), p);
  }

 private:
  float alpha_, gain_;
};

template <typename T, bool GPU>
class FusedBiasActOp : public FusedOp {
 public:
  using FusedOp::FusedOp;
  void Compute(OpKernelContext* ctx) override {
    const Tensor& x = ctx->input(0);
    FusedBiasAct<T> p;
    OP_REQUIRES_OK(ctx, read(ctx, x, 1, &p));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output({0}, 0, x.shape(), &y));
    if (x.NumElements()) forward(ctx, p, data<T>(x), data<T>(y), std::integral_constant<bool, GPU>());
  }
};

template <typename T, bool GPU>
class FusedBiasActGradOp : public FusedOp {
 public:
  using FusedOp::FusedOp;
  void Compute(OpKernelContext* ctx) override {
    const Tensor &dy = ctx->input(0), &sign_source = ctx->input(1);
    FusedBiasAct<T> p;
    OP_REQUIRES_OK(ctx, read(ctx, dy, 2, &p));
    OP_REQUIRES_OK(ctx, same_shape("sign_source", sign_source, dy));
    Tensor *dx = nullptr, *dbias = nullptr, *dscale = nullptr, *dstrength = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output({0}, 0, dy.shape(), &dx));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, ctx->input(2).shape(), &dbias));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(2, ctx->input(3).shape(), &dscale));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(3, ctx->input(5).shape(), &dstrength));
    FusedBiasActGrad<T> g = {data<T>(dy),    data<T>(sign_source), data<T>(dx),
                             data<T>(dbias), data<T>(dscale),      data<T>(dstrength)};
    grad(ctx, p, g, std::integral_constant<bool, GPU>());
  }
};

template <typename T, bool GPU>
class FusedBiasActGradGradOp : public FusedOp {
 public:
  using FusedOp::FusedOp;
  void Compute(OpKernelContext* ctx) override {
    const Tensor &gdx = ctx->input(0), &gdbias = ctx->input(1), &gdscale = ctx->input(2), &gdstrength = ctx->input(3);
    const Tensor &dy = ctx->input(4), &sign_source = ctx->input(5), &bias = ctx->input(6), &scale = ctx->input(7);
    FusedBiasAct<T> p;
    OP_REQUIRES_OK(ctx, read(ctx, gdx, 6, &p));
    OP_REQUIRES_OK(ctx, same_shape("dy", dy, gdx));
    OP_REQUIRES_OK(ctx, same_shape("sign_source", sign_source, gdx));
    OP_REQUIRES_OK(ctx, same_shape("gdbias", gdbias, bias));
    OP_REQUIRES_OK(ctx, same_shape("gdscale", gdscale, scale));
    OP_REQUIRES_OK(ctx, same_shape("gdstrength", gdstrength, ctx->input(9)));
    Tensor *ddy = nullptr, *dx = nullptr, *dscale = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output({0}, 0, gdx.shape(), &ddy));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, absent(scale) ? scale.shape() : gdx.shape(), &dx));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(2, scale.shape(), &dscale));
    FusedBiasActGradGrad<T> g = {data<T>(gdx), data<T>(gdbias),      data<T>(gdscale), data<T>(gdstrength),
                                 data<T>(dy),  data<T>(sign_source), data<T>(ddy),     data<T>(dx), data<T>(dscale)};
    grad_grad(ctx, p, g, std::integral_constant<bool, GPU>());
  }
};

DNNLIB_REGISTER_KERNELS("DnnlibFusedBiasAct", FusedBiasActOp)
DNNLIB_REGISTER_KERNELS("DnnlibFusedBiasActGrad", FusedBiasActGradOp)
DNNLIB_REGISTER_KERNELS("DnnlibFusedBiasActGradGrad", FusedBiasActGradGradOp)

}  // namespace
}  // namespace dnnlib
