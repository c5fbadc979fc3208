// Runs every CPU kernel on exactly sized buffers, on one thread and on four, and compares the two bit for bit.
//
// Built with AddressSanitizer and with ThreadSanitizer by test_cpu_sanitizers.py: no TensorFlow, no Python.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fused_bias_act.h"
#include "upfirdn_2d.h"

using namespace dnnlib;

template <typename T>
using Buffer = std::unique_ptr<T[]>;

unsigned state = 1;

template <typename T>
Buffer<T> random_buffer(int64_t size) {
  Buffer<T> result(new T[size]);  // exactly as large, so that AddressSanitizer sees one element too many
  for (int64_t i = 0; i < size; ++i) result[i] = T((state = state * 1664525u + 1013904223u) >> 8) / T(1 << 23) - T(1);
  return result;
}

void one_thread(int64_t total, int64_t, const std::function<void(int64_t, int64_t)>& work) { work(0, total); }

void four_threads(int64_t total, int64_t, const std::function<void(int64_t, int64_t)>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([=, &work] { work(total * i / 4, total * (i + 1) / 4); });
  for (std::thread& thread : threads) thread.join();
}

template <typename T>
void check_equal(const std::string& what, const Buffer<T>& a, const Buffer<T>& b, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    if (a[i] == b[i]) continue;
    std::printf("%s differs at %ld: %g, %g\n", what.c_str(), long(i), double(a[i]), double(b[i]));
    std::exit(1);
  }
}

template <typename T>
void upfirdn(int64_t h, int64_t w, int64_t c, int up, int down, int taps, int pad, bool separable, bool symmetric) {
  Buffer<float> kernel = random_buffer<float>(separable ? 2 * taps : taps * taps);
  if (symmetric) kernel[3] = kernel[0], kernel[2] = kernel[1], kernel[7] = kernel[4], kernel[6] = kernel[5];
  const int64_t out_h = (h * up + pad + 2 - taps) / down + 1, out_w = (w * up + pad + 2 - taps) / down + 1;
  if (h * up + pad + 2 < taps || w * up + pad + 2 < taps) return;
  const Upfirdn2d p = {2, h, w, c, out_h, out_w, up, down, pad, pad, taps, taps, separable, kernel.get()};
  const Buffer<T> x = random_buffer<T>(2 * h * w * c);
  const int64_t size = 2 * out_h * out_w * c;
  const Buffer<T> a = random_buffer<T>(size), b = random_buffer<T>(size);
  upfirdn_2d_cpu(p, x.get(), a.get(), one_thread);
  upfirdn_2d_cpu(p, x.get(), b.get(), four_threads);
  check_equal("upfirdn_2d", a, b, size);
}

template <typename T>
void fused(int64_t n, int64_t pixels, int64_t c, bool has_scale, bool has_bias, bool has_noise, bool one_noise) {
  const int64_t size = n * pixels * c;
  const Buffer<T> x = random_buffer<T>(size), dy = random_buffer<T>(size), gdx = random_buffer<T>(size);
  const Buffer<T> scale = random_buffer<T>(n * c), gdscale = random_buffer<T>(n * c), bias = random_buffer<T>(c);
  const Buffer<T> noise = random_buffer<T>(one_noise ? pixels : n * pixels), strength = random_buffer<T>(1);
  const FusedBiasAct<T> p = {n, pixels, c, has_bias ? bias.get() : nullptr, has_scale ? scale.get() : nullptr,
                             has_noise ? noise.get() : nullptr, has_noise ? strength.get() : nullptr,
                             one_noise ? 0 : pixels, 0.2f, 1.5f};
  Buffer<T> big[2][4], small[2][4];
  for (int run = 0; run < 2; ++run) {
    for (Buffer<T>& buffer : big[run]) buffer = random_buffer<T>(size);
    for (int i = 0; i < 4; ++i) small[run][i] = random_buffer<T>(i < 2 ? n * c : i == 2 ? c : 1);
    const ParallelFor threads = run ? ParallelFor(four_threads) : ParallelFor(one_thread);
    fused_bias_act_cpu(p, x.get(), big[run][0].get(), threads);
    const FusedBiasActGrad<T> g = {dy.get(), x.get(), big[run][1].get(), has_bias ? small[run][2].get() : nullptr,
                                   has_scale ? small[run][0].get() : nullptr, has_noise ? small[run][3].get() : nullptr};
    fused_bias_act_grad_cpu(p, g, threads);
    const FusedBiasActGradGrad<T> gg = {gdx.get(), has_bias ? bias.get() : nullptr, has_scale ? gdscale.get() : nullptr,
                                        has_noise ? strength.get() : nullptr, dy.get(), x.get(), big[run][2].get(),
                                        has_scale ? big[run][3].get() : nullptr, has_scale ? small[run][1].get() : nullptr};
    fused_bias_act_grad_grad_cpu(p, gg, threads);
  }
  for (int i = 0; i < (has_scale ? 4 : 3); ++i) check_equal("a result of fused_bias_act", big[0][i], big[1][i], size);
  if (has_scale) check_equal("dscale", small[0][0], small[1][0], n * c);
  if (has_scale) check_equal("the derivative of dscale", small[0][1], small[1][1], n * c);
  if (has_bias) check_equal("dbias", small[0][2], small[1][2], c);
  if (has_noise) check_equal("dstrength", small[0][3], small[1][3], 1);
}

template <typename T>
void all() {
  for (int64_t c : {1, 3, 6, 17, 100}) {
    for (int pad : {-3, 2}) {
      for (int64_t size : {1, 5}) {
        for (int factor = 0; factor < 3; ++factor) {
          const int up = factor == 1 ? 2 : 1, down = factor == 2 ? 2 : 1;
          upfirdn<T>(size, size + 2, c, up, down, 4, pad, true, true);
          upfirdn<T>(size, size + 2, c, up, down, 3, pad, true, false);
          upfirdn<T>(size, size + 2, c, 3, 2, 6, pad, factor == 0, false);
        }
      }
    }
    for (int mask = 0; mask < 16; ++mask) {
      for (int64_t pixels : {1, 301}) fused<T>(3, pixels, c, mask & 1, mask & 2, mask & 4, mask & 8);
    }
  }
}

int main() {
  all<float>();
  all<double>();
  std::puts("ok");
}
