// Attention of one head, written once over a vector type and compiled for each instruction set.
//
// Layout: operands are words of 32 bits, one float or two bfloat16. The left operand of a product is rows of words, the
// right one panels of as many columns as a tile has, word after word: so one loop of broadcasts and multiply-adds serves
// Q K^T and P V, in both precisions. Keys are transposed into panels, values copied.
// Loop order: blocks of keys that the second cache holds; in each, groups of queries that registers hold: scores,
// their exponentials, results. The largest score and the sum of exponentials are carried from block to block
// (Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3; Dao et al. 2022, arXiv:2205.14135, algorithm 1).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sparsify::attention {

// Some queries of one head; strides are of tokens, in floats.
struct Head {
  const float *q, *k, *v, *mask;  // mask may be null
  int64_t q_token, k_token, v_token, mask_token;
  float* y;
  int64_t y_token;
  int64_t queries, keys, depth, width;
  float scale;
  bool nan_is_zero;
};

// What an instruction set's file offers to attention.cpp.
struct Loops {
  const char* name;
  int64_t (*room)(const Head& head);  // floats
  void (*run)(const Head& head, float* room);
};

constexpr int ROWS = 6;              // queries of a group
constexpr int64_t BLOCK_KEYS = 256;  // whose panels are an eighth of a megabyte where heads have 64 features

constexpr int64_t padded(int64_t count, int64_t of) { return (count + of - 1) / of * of; }

// e^x for x <= 0 as 2^n p(r), where n + r = x / ln 2, |r| <= 1/2, and p is a minimax polynomial of 2^r. What is below
// e^-87 counts as that; a NaN is the second operand, and so passed on.
template <class V, int DEGREE>
[[gnu::always_inline]] inline typename V::Register exponential(typename V::Register x, const float (&p)[DEGREE + 1]) {
  x = V::larger(V::set(-126.0f), V::multiply(x, V::set(1.44269504f)));
  const auto n = V::nearest(x);
  const auto r = V::subtract(x, n);
  auto sum = V::set(p[DEGREE]);
#pragma GCC unroll 8
  for (int i = DEGREE - 1; i >= 0; --i) sum = V::fma(sum, r, V::set(p[i]));
  return V::times_power_of_two(sum, n);
}

// A word is a float.
template <class V>
struct Floats {
  using Vector = V;
  using Register = typename V::Register;
  static constexpr int numbers = 1;  // of a word

  // Within 2.3e-7, relative.
  static Register exponential(Register x) {
    constexpr float P[] = {1.000000072f, 0.6931469671f, 0.2402211972f, 0.05550713275f, 0.009675541331f, 0.001327647152f};
    return attention::exponential<V, 5>(x, P);
  }

  static Register multiply_add(Register a, Register b, Register sum) { return V::fma(a, b, sum); }
  // words[i] = scale x[i], and zeros to the next whole vector.
  static void narrow(const float* x, int64_t count, float scale, float* words) {
    for (int64_t i = 0; i < count; i += V::width) {
      V::store(words + i, V::multiply(V::load(x + i, V::first(count - i)), V::set(scale)));
    }
  }
  // words[i] is what rows of one feature i become.
  static void join(const float* const* rows, int64_t count, float* words) { narrow(rows[0], count, 1.0f, words); }
};

template <class W>
class HeadLoops {
  using V = typename W::Vector;
  using Register = typename V::Register;
  static constexpr int width = V::width;
  static constexpr int VECTORS = width == 8 ? 2 : 4;  // columns of a tile; AVX2 has sixteen registers
  static constexpr int64_t PANEL = VECTORS * width;

  // A right operand: `steps` words of `columns` columns, a multiple of the vector's width.
  struct Panels {
    float* words;
    int64_t steps, columns;

    int64_t width_at(int64_t column) const { return std::min(PANEL, columns - column / PANEL * PANEL); }
    float* at(int64_t step, int64_t column) const {
      const int64_t first = column / PANEL * PANEL;
      return words + first * steps + step * width_at(column) + column - first;
    }
  };

  // Parts of the room.
  struct Room {
    int64_t block, steps, columns;  // keys of a block; words of a query; padded features of a value
    float *queries, *lines, *keys, *values, *scores, *sums, *largest, *total, *end;

    Room(const Head& head, float* room) {
      block = padded(std::min(head.keys, BLOCK_KEYS), width);
      steps = padded((head.depth + W::numbers - 1) / W::numbers, width);
      columns = padded(head.width, width);
      queries = room;
      lines = queries + head.queries * steps;
      keys = lines + width * steps;
      values = keys + block * steps;
      scores = values + block * columns;
      sums = scores + ROWS * block;
      largest = sums + head.queries * columns;
      total = largest + head.queries;
      end = total + head.queries;
    }
  };

 public:
  static int64_t room(const Head& head) {
    float none[1];
    return Room(head, none).end - none;
  }

  static void run(const Head& head, float* memory) {
    const Room room(head, memory);
    for (int64_t i = 0; i < head.queries; ++i) {
      W::narrow(head.q + i * head.q_token, head.depth, head.scale, room.queries + i * room.steps);
    }
    std::fill_n(room.largest, head.queries, -std::numeric_limits<float>::infinity());
    for (int64_t first = 0; first < head.keys; first += BLOCK_KEYS) run_block(head, room, first);
    for (int64_t i = 0; i < head.queries; ++i) write(head, room, i);
  }

 private:
  static void run_block(const Head& head, const Room& room, int64_t first) {
    const int64_t count = std::min(BLOCK_KEYS, head.keys - first);
    const Panels keys = {room.keys, (head.depth + W::numbers - 1) / W::numbers, padded(count, width)};
    const Panels values = {room.values, (count + W::numbers - 1) / W::numbers, room.columns};
    pack_keys(head, first, count, room.lines, room.steps, keys);
    pack_values(head, first, count, values);
    for (int64_t i = 0; i < head.queries; i += ROWS) {
      const int rows = static_cast<int>(std::min<int64_t>(ROWS, head.queries - i));
      multiply(rows, room.queries + i * room.steps, room.steps, keys, room.scores, room.block, false);
      for (int r = 0; r < rows; ++r) {
        const float* mask = head.mask == nullptr ? nullptr : head.mask + (i + r) * head.mask_token + first;
        float* sums = room.sums + (i + r) * room.columns;
        weigh(room.scores + r * room.block, count, mask, room.largest[i + r], room.total[i + r],
              first == 0 ? nullptr : sums, room.columns);
      }
      multiply(rows, room.scores, room.block, values, room.sums + i * room.columns, room.columns, first > 0);
    }
  }

  static void pack_keys(const Head& head, int64_t first, int64_t count, float* lines, int64_t line, const Panels& to) {
    for (int64_t j = 0; j < count; j += width) {
      for (int64_t i = 0; i < width; ++i) {
        if (j + i < count) {
          W::narrow(head.k + (first + j + i) * head.k_token, head.depth, 1.0f, lines + i * line);
        } else {
          std::fill_n(lines + i * line, line, 0.0f);
        }
      }
      for (int64_t step = 0; step < to.steps; step += width) {
        Register v[width];
        for (int i = 0; i < width; ++i) v[i] = V::load(lines + i * line + step);
        V::transpose(v);
        const int64_t some = std::min<int64_t>(width, to.steps - step);
        for (int i = 0; i < some; ++i) V::store(to.at(step + i, j), v[i]);
      }
    }
  }

  static void pack_values(const Head& head, int64_t first, int64_t count, const Panels& to) {
    for (int64_t step = 0; step < to.steps; ++step) {
      const float* rows[W::numbers];
      for (int i = 0; i < W::numbers; ++i) {
        const int64_t key = step * W::numbers + i;
        rows[i] = key < count ? head.v + (first + key) * head.v_token : nullptr;
      }
      for (int64_t column = 0; column < head.width; column += PANEL) {
        W::join(rows, std::min(PANEL, head.width - column), to.at(step, column));
        for (const float*& row : rows) row = row == nullptr ? nullptr : row + PANEL;
      }
    }
  }

  // One query's scores become exponentials, as words; what was summed up before, if anything, is scaled like them.
  static void weigh(float* scores, int64_t count, const float* mask, float& largest, float& total, float* sums,
                    int64_t columns) {
    constexpr float LOWEST = -std::numeric_limits<float>::infinity();
    std::fill(scores + count, scores + padded(count, width), LOWEST);
    auto most = V::set(largest);
    for (int64_t j = 0; j < count; j += width) {
      auto score = V::load(scores + j);
      if (mask != nullptr) {
        score = V::add(score, V::load(mask + j, V::first(count - j)));
        V::store(scores + j, score);
      }
      most = V::larger(most, score);
    }
    const float before = largest;
    largest = V::most(most);
    const float base = largest == LOWEST ? 0.0f : largest;
    auto sum = V::zero();
    for (int64_t j = 0; j < count; j += width) {
      const auto weight = W::exponential(V::subtract(V::load(scores + j), V::set(base)));
      sum = V::add(sum, weight);
      V::store(scores + j, weight);
    }
    W::narrow(scores, count, 1.0f, scores);
    if (sums == nullptr) {
      total = V::sum(sum);
      return;
    }
    const float kept = std::exp(before - base);
    total = total * kept + V::sum(sum);
    if (kept == 1.0f) return;
    for (int64_t c = 0; c < columns; c += width) {
      V::store(sums + c, V::multiply(V::load(sums + c), V::set(kept)));
    }
  }

  static void write(const Head& head, const Room& room, int64_t query) {
    const bool any = room.largest[query] != -std::numeric_limits<float>::infinity();
    const float one = any ? 1.0f / room.total[query] : std::numeric_limits<float>::quiet_NaN();
    const float* sums = room.sums + query * room.columns;
    float* y = head.y + query * head.y_token;
    if (head.nan_is_zero && std::isnan(one)) {
      std::fill_n(y, head.width, 0.0f);
      return;
    }
    const auto inverse = V::set(one);
    for (int64_t c = 0; c < head.width; c += width) {
      V::store(y + c, V::first(head.width - c), V::multiply(V::load(sums + c), inverse));
    }
  }

  // c[rows][columns] = or += a[rows][steps] b[steps][columns].
  static void multiply(int rows, const float* a, int64_t a_line, const Panels& b, float* c, int64_t c_line, bool add) {
    for (int64_t column = 0; column < b.columns; column += PANEL) {
      const auto vectors = static_cast<int>(b.width_at(column) / width);
      any_tile<ROWS, VECTORS>(rows, vectors, {a, a_line, b.at(0, column), b.steps, c + column, c_line, add});
    }
  }

  struct Tile {
    const float* a;
    int64_t a_line;
    const float* b;
    int64_t steps;
    float* c;
    int64_t c_line;
    bool add;
  };

  template <int MOST_ROWS, int MOST_VECTORS>
  static void any_tile(int rows, int vectors, const Tile& tile) {
    if constexpr (MOST_ROWS > 1) {
      if (rows < MOST_ROWS) return any_tile<MOST_ROWS - 1, MOST_VECTORS>(rows, vectors, tile);
    }
    if constexpr (MOST_VECTORS > 1) {
      if (vectors < MOST_VECTORS) return any_tile<MOST_ROWS, MOST_VECTORS - 1>(rows, vectors, tile);
    }
    multiply_tile<MOST_ROWS, MOST_VECTORS>(tile);
  }

  template <int R, int T>
  static void multiply_tile(const Tile& tile) {
    Register sum[R][T];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        sum[r][t] = tile.add ? V::load(tile.c + r * tile.c_line + t * width) : V::zero();
      }
    }
    const float* b = tile.b;
    for (int64_t step = 0; step < tile.steps; ++step, b += T * width) {
      Register right[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) right[t] = V::load(b + t * width);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const Register left = V::broadcast(tile.a + r * tile.a_line + step);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sum[r][t] = W::multiply_add(left, right[t], sum[r][t]);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) V::store(tile.c + r * tile.c_line + t * width, sum[r][t]);
    }
  }
};

template <class W>
constexpr Loops loops_named(const char* name) {
  return {name, HeadLoops<W>::room, HeadLoops<W>::run};
}

}  // namespace sparsify::attention
