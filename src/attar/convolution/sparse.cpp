// Convolution of a sparse activation with a dense kernel, in registers.
//
// The activation is channels last in memory. Its rows are packed once. For every row and every slab of channels the
// packed form has the non-zero values one after the other, the place of each value's weights, and the place where the
// values of each pixel begin. The part of a row in a window is then ONE run of that list, because neighbouring pixels
// are neighbours in it. Every window that contains the run can use it: if the window moves by a pixel, only the base
// address of the weights moves. (MEC reads a lowered matrix through such overlapping views; here it is sparse.)
//
// An output pixel keeps `vectors` registers of filters during a run. Each value needs one broadcast and `vectors` fused
// multiply-adds with weights from memory, and no store. The weights of a kernel row and a slab fill the first-level
// cache and stay there for all pixels of a tile. Threads share tiles and blocks of filters, so no sum crosses threads.
//
// The vector width depends on the machine for which the file is compiled: 16, 8 or 4 floats.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// The arguments of one call. All counts are of elements. Rows are those of all images, one image after the other.
struct Shape {
    int32_t images, channels, height, width;
    int32_t filters, out_height, out_width;
    int32_t kernel_height, kernel_width, stride_down, stride_right, pad_down, pad_right;
    int32_t slab, slabs;      // channels of a slab, and how many there are
    int32_t vectors, blocks;  // registers of filters of an output pixel, and how many such blocks there are
    int32_t tile;             // output rows to process while a slab of weights stays in cache
    int32_t threads;
};

// The packed activation. Rows are `capacity` apart in `values` and `places`, and `edges` apart in `starts`. After the
// last row there is a row of zeros for the padding above and below.
struct Packed {
    float *values;
    int32_t *places;  // bytes from the weights of the row's first pixel and channel
    int32_t *starts;  // of every pixel of the padded row, and the end
};

static inline int64_t capacity(const Shape &s) { return int64_t(s.width) * s.slab + 16; }

static inline int edges(const Shape &s) { return s.width + 2 * s.pad_right + 1; }

static inline int64_t row_of(const Shape &s, int slab, int row) {
    return int64_t(slab) * s.images * s.height + row;
}

static inline int64_t empty_row(const Shape &s) { return int64_t(s.slabs) * s.images * s.height; }

#if defined(__AVX512F__)
// Append the non-zeros of one pixel, 16 channels at a time: compare gives a bitmask, compress closes the gaps.
static inline int append(const float *pixel, int channels, int32_t place, int32_t step, float *values, int32_t *places,
                         int count, bool &finite) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512 zero = _mm512_setzero_ps();
    const __m512i offsets = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(step));
    for (int c = 0; c < channels; c += 16) {
        const __mmask16 there = channels - c >= 16 ? 0xffff : (1u << (channels - c)) - 1;
        const __m512 x = _mm512_maskz_loadu_ps(there, pixel + c);
        const __mmask16 alive = _mm512_cmp_ps_mask(x, zero, _CMP_NEQ_UQ);
        finite &= _mm512_cmp_ps_mask(_mm512_sub_ps(x, x), zero, _CMP_NEQ_UQ) == 0;
        const __m512i at = _mm512_add_epi32(offsets, _mm512_set1_epi32(place + c * step));
        _mm512_storeu_ps(values + count, _mm512_maskz_compress_ps(alive, x));
        _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(alive, at));
        count += __builtin_popcount(alive);
    }
    return count;
}
#else
// Append the non-zeros of one pixel, one channel at a time, without a branch: the next value overwrites a zero.
static inline int append(const float *pixel, int channels, int32_t place, int32_t step, float *values, int32_t *places,
                         int count, bool &finite) {
    for (int c = 0; c < channels; c++) {
        const float x = pixel[c];
        finite &= x - x == 0;
        values[count] = x;
        places[count] = place + c * step;
        count += x != 0;
    }
    return count;
}
#endif

// Pack all rows. Returns whether every value is finite.
static bool pack(const Shape &s, const float *activation, const Packed &p) {
    bool finite = true;
    int32_t *padding = p.starts + empty_row(s) * edges(s);
#pragma omp single nowait
    std::fill(padding, padding + edges(s), 0);
    const int32_t step = s.vectors * LANES * int32_t(sizeof(float));
#pragma omp for schedule(static)
    for (int row = 0; row < s.images * s.height; row++) {
        for (int slab = 0; slab < s.slabs; slab++) {
            const int64_t at = row_of(s, slab, row);
            float *values = p.values + at * capacity(s);
            int32_t *places = p.places + at * capacity(s), *starts = p.starts + at * edges(s);
            const int first = slab * s.slab, channels = std::min(s.slab, s.channels - first);
            int count = 0;
            std::fill(starts, starts + s.pad_right, 0);
            starts += s.pad_right;
            for (int j = 0; j < s.width; j++) {
                const float *pixel = activation + (int64_t(row) * s.width + j) * s.channels + first;
                starts[j] = count;
                count = append(pixel, channels, j * s.slab * step, step, values, places, count, finite);
            }
            std::fill(starts + s.width, starts + s.width + s.pad_right + 1, count);
        }
    }
    return finite;
}

// Add one run of non-zeros times their weights to the filters of one output pixel.
template <int N>
static inline __attribute__((always_inline)) void add_run(Vector (&sums)[N], const float *values, const int32_t *places,
                                                          int count, const char *weights) {
    for (int e = 0; e < count; e++) {
        const Vector value = values[e] - Vector{};
        const char *at = weights + places[e];
        __asm__("" : "+r"(at));  // one register for all addresses: compilers would keep one for each
#pragma GCC unroll 16
        for (int v = 0; v < N; v++) sums[v] += value * *(const Vector *)(at + v * sizeof(Vector));
    }
}

template <int N> static inline __attribute__((always_inline)) void load(Vector (&sums)[N], const float *from) {
#pragma GCC unroll 16
    for (int v = 0; v < N; v++) sums[v] = *(const Vector *)(from + v * LANES);
}

template <int N> static inline __attribute__((always_inline)) void store(const Vector (&sums)[N], float *to) {
#pragma GCC unroll 16
    for (int v = 0; v < N; v++) *(Vector *)(to + v * LANES) = sums[v];
}

// The weights that are needed next, fetched into the second-level cache a few lines at a time.
struct Ahead {
    const char *next, *end;
    int64_t bytes;  // for every output pixel

    void fetch() {
        for (const char *stop = std::min(end, next + bytes); next < stop; next += 64) __builtin_prefetch(next, 0, 1);
    }
};

// Add one input row to the windows of one output row. `FIRST` sums begin with the bias. A block that is not `WHOLE` has
// fewer filters than its registers hold, so it uses a buffer.
template <int N, bool FIRST, bool WHOLE>
static void add_row(const float *values, const int32_t *places, const int32_t *starts, const char *weights,
                    int64_t window_bytes, int stride, int kernel, const float *bias, float *out, int64_t out_step,
                    int count, int filters, Ahead &ahead) {
    for (int x = 0; x < count; x++, starts += stride, weights -= window_bytes, out += out_step) {
        ahead.fetch();
        const int begin = starts[0], end = starts[kernel];
        if (!FIRST && begin == end) continue;
        Vector sums[N];
        float buffer[WHOLE ? 1 : N * LANES] = {};
        if (FIRST) {
            load<N>(sums, bias);
        } else if (WHOLE) {
            load<N>(sums, out);
        } else {
            std::memcpy(buffer, out, filters * sizeof(float));
            load<N>(sums, buffer);
        }
        add_run<N>(sums, values + begin, places + begin, end - begin, weights);
        if (WHOLE) {
            store<N>(sums, out);
        } else {
            store<N>(sums, buffer);
            std::memcpy(out, buffer, filters * sizeof(float));
        }
    }
}

// For one kernel row and one slab, add the matching input row to every output row of the tile.
template <int N, bool FIRST, bool WHOLE>
static void add_slab(const Shape &s, const Packed &p, const float *weights, const float *bias, float *out, int filters,
                     int from, int to, int slab, int l, Ahead &ahead) {
    const int64_t column = int64_t(s.slab) * N * LANES * sizeof(float);  // from a column of the kernel to the next
    const char *leftmost = (const char *)weights + (int64_t(l) * s.kernel_width + s.pad_right) * column;
    const int64_t out_row = int64_t(s.out_width) * s.filters;
    for (int y = from; y < to; y++) {
        const int i = y % s.out_height * s.stride_down - s.pad_down + l;
        const bool inside = i >= 0 && i < s.height;
        const int64_t row = inside ? row_of(s, slab, y / s.out_height * s.height + i) : empty_row(s);
        const int32_t *starts = p.starts + row * edges(s);
        if (!FIRST && starts[edges(s) - 1] == 0) continue;
        add_row<N, FIRST, WHOLE>(p.values + row * capacity(s), p.places + row * capacity(s), starts, leftmost,
                                 s.stride_right * column, s.stride_right, s.kernel_width, bias, out + y * out_row,
                                 s.filters, s.out_width, filters, ahead);
    }
}

// Compute one tile of one block of filters, kernel row by kernel row and slab by slab.
template <int N, bool WHOLE>
static void add_tile(const Shape &s, const Packed &p, const float *weights, const float *bias, float *out, int filters,
                     int from, int to) {
    const int64_t row = int64_t(s.kernel_width) * s.slab * N * LANES, all = row * s.kernel_height * s.slabs;
    const int64_t pixels = int64_t(to - from) * s.out_width, share = row * sizeof(float) / pixels / 64 * 64 + 64;
    for (int part = 0; part < s.slabs * s.kernel_height; part++) {
        const int slab = part / s.kernel_height, l = part % s.kernel_height;
        const float *here = weights + slab * s.kernel_height * row, *next = weights + (part + 1) * row;
        Ahead ahead = {(const char *)next, (const char *)std::min(next + row, weights + all), share};
        if (part == 0)
            add_slab<N, true, WHOLE>(s, p, here, bias, out, filters, from, to, slab, l, ahead);
        else
            add_slab<N, false, WHOLE>(s, p, here, bias, out, filters, from, to, slab, l, ahead);
    }
}

template <int N>
static void multiply(const Shape &s, const Packed &p, const float *weights, const float *bias, float *out) {
    const int rows = s.images * s.out_height, tiles = (rows + s.tile - 1) / s.tile, width = N * LANES;
    const int64_t block_size = int64_t(s.slabs) * s.kernel_height * s.kernel_width * s.slab * width;
#pragma omp for schedule(dynamic) collapse(2)
    for (int block = 0; block < s.blocks; block++) {
        for (int tile = 0; tile < tiles; tile++) {
            const int first = block * width, filters = std::min(width, s.filters - first);
            const int from = tile * s.tile, to = std::min(rows, from + s.tile);
            const float *here = weights + block * block_size;
            if (filters == width)
                add_tile<N, true>(s, p, here, bias + first, out + first, filters, from, to);
            else
                add_tile<N, false>(s, p, here, bias + first, out + first, filters, from, to);
        }
    }
}

extern "C" int lanes() { return LANES; }

// Convolve images. `weights` are [block, slab, kernel row, kernel column, channel of slab, filter of block], `bias`
// [block * filter of block], `out` [image, row, column, filter]. Returns 0 if the activation is finite.
extern "C" int convolve(const Shape *shape, const float *activation, const float *weights, const float *bias, float *out,
                        float *values, int32_t *places, int32_t *starts) {
    const Shape s = *shape;
    const Packed p = {values, places, starts};
    bool finite = true;
#pragma omp parallel num_threads(s.threads) reduction(&& : finite)
    {
        finite = pack(s, activation, p);
        switch (s.vectors) {
            case 1: multiply<1>(s, p, weights, bias, out); break;
            case 2: multiply<2>(s, p, weights, bias, out); break;
            case 3: multiply<3>(s, p, weights, bias, out); break;
            case 4: multiply<4>(s, p, weights, bias, out); break;
            case 5: multiply<5>(s, p, weights, bias, out); break;
            case 6: multiply<6>(s, p, weights, bias, out); break;
            case 7: multiply<7>(s, p, weights, bias, out); break;
            case 8: multiply<8>(s, p, weights, bias, out); break;
        }
    }
    return finite ? 0 : 1;
}
