// How the CPU kernels reach threads they do not own.
#ifndef DNNLIB_OPS_NATIVE_PARALLEL_H_
#define DNNLIB_OPS_NATIVE_PARALLEL_H_

#include <cstdint>
#include <functional>

namespace dnnlib {

// Calls the function with ranges [begin, end) that cover 0..total once, on any threads; `cost` is nanoseconds per unit.
using ParallelFor =
    std::function<void(int64_t total, int64_t cost, const std::function<void(int64_t begin, int64_t end)>& work)>;

}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_PARALLEL_H_
