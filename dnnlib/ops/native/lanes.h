// Several channels at once: GCC's and Clang's vector types, which both lower to whatever the processor has.
#ifndef DNNLIB_OPS_NATIVE_LANES_H_
#define DNNLIB_OPS_NATIVE_LANES_H_

#include <cstdint>

namespace dnnlib {

// COUNT channels in one vector, loaded from and stored to any element.
template <typename T, int COUNT>
struct Lanes {
  typedef T type __attribute__((vector_size(COUNT * sizeof(T)), aligned(alignof(T)), may_alias));
  static constexpr int count = COUNT;
  static type load(const T* p) { return *reinterpret_cast<const type*>(p); }
  static void store(T* p, type v) { *reinterpret_cast<type*>(p) = v; }
};

// The last one to three channels, in a vector of four.
template <typename T, int COUNT>
struct FewLanes {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));
  static constexpr int count = COUNT;
  static type load(const T* p) { return type{p[0], COUNT > 1 ? p[1 % COUNT] : 0, COUNT > 2 ? p[2 % COUNT] : 0, 0}; }
  static void store(T* p, type v) {
    for (int i = 0; i < COUNT; ++i) p[i] = v[i];
  }
};

// A strip of channels: VECTORS vectors side by side.
template <typename L, int VECTORS>
struct Strip {
  using lanes = L;
  static constexpr int vectors = VECTORS, channels = VECTORS * L::count;
};

// Calls f(Strip<...>(), first channel) for strips that cover the channels once, as wide as possible up to WIDEST vectors of
// a cache line: many lines side by side run up to twice as fast as one, for which the processor does not fetch ahead.
template <typename T, int WIDEST, typename F>
inline void for_strips(int64_t channels, const F& f) {
  constexpr int wide = 64 / sizeof(T);
  int64_t c = 0;
  if constexpr (WIDEST >= 16) {
    for (; c + 16 * wide <= channels; c += 16 * wide) f(Strip<Lanes<T, wide>, 16>(), c);
    for (; c + 8 * wide <= channels; c += 8 * wide) f(Strip<Lanes<T, wide>, 8>(), c);
  }
  for (; c + 4 * wide <= channels; c += 4 * wide) f(Strip<Lanes<T, wide>, 4>(), c);
  for (; c + 2 * wide <= channels; c += 2 * wide) f(Strip<Lanes<T, wide>, 2>(), c);
  for (; c + wide <= channels; c += wide) f(Strip<Lanes<T, wide>, 1>(), c);
  for (; c + wide / 2 <= channels; c += wide / 2) f(Strip<Lanes<T, wide / 2>, 1>(), c);
  for (; c + 4 <= channels; c += 4) f(Strip<Lanes<T, 4>, 1>(), c);
  if (channels - c == 3) f(Strip<FewLanes<T, 3>, 1>(), c);
  if (channels - c == 2) f(Strip<FewLanes<T, 2>, 1>(), c);
  if (channels - c == 1) f(Strip<FewLanes<T, 1>, 1>(), c);
}

}  // namespace dnnlib

#endif  // DNNLIB_OPS_NATIVE_LANES_H_
