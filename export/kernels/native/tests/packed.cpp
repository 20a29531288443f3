#include "packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sparsify_tests {
namespace {

constexpr size_t HEADER = 96;

uint32_t crc32(const uint8_t* bytes, size_t count) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < count; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

template <typename T>
void put(std::vector<uint8_t>& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// A section at the next multiple of 64, or nowhere if it is empty; its offset and size go into the header.
void add_section(std::vector<uint8_t>& bytes, size_t field, const void* data, size_t size) {
  if (size == 0) return;
  bytes.resize((bytes.size() + 63) / 64 * 64);
  put<uint64_t>(bytes, field, bytes.size());
  put<uint64_t>(bytes, field + 8, size);
  const auto* first = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), first, first + size);
}

struct Block {
  int64_t rows, columns;
};

Block block_of(Pattern pattern) {
  switch (pattern) {
    case BLOCK_1X4: return {1, 4};
    case ROWS_16: return {16, 1};
    case ROWS_32: return {32, 1};
    default: return {1, 1};
  }
}

}  // namespace

int64_t between(Random& random, int64_t least, int64_t most) {
  return std::uniform_int_distribution<int64_t>(least, most)(random);
}

float normal(Random& random) { return std::normal_distribution<float>()(random); }

void Packed::seal() { put<uint32_t>(bytes, 80, crc32(bytes.data() + HEADER, bytes.size() - HEADER)); }

Packed random_packed(Random& random, int64_t rows, int64_t columns, Precision precision, Pattern pattern,
                     double density) {
  Packed packed{rows, columns, precision, pattern, std::vector<double>(rows * columns), {}};
  std::vector<float> scales(precision == I8 ? rows : 0);
  for (float& scale : scales) scale = 0.001f + 0.01f * std::abs(normal(random));
  const Block block = block_of(pattern);
  const int64_t mask_rows = (rows + block.rows - 1) / block.rows, bits = (columns + block.columns - 1) / block.columns;
  const int64_t words = (bits + 63) / 64;
  std::vector<uint64_t> mask(pattern == DENSE ? 0 : mask_rows * words);
  std::vector<float> floats;
  std::vector<int8_t> integers;
  const auto store = [&](int64_t row, int64_t column) {
    const bool inside = row < rows && column < columns;
    if (precision == I8) {
      const int64_t value = inside ? between(random, -127, 127) : 0;
      integers.push_back(static_cast<int8_t>(value));
      if (inside) packed.weights[row * columns + column] = static_cast<double>(value) * scales[row];
    } else {
      const float value = inside ? normal(random) : 0;
      floats.push_back(value);
      if (inside) packed.weights[row * columns + column] = value;
    }
  };
  for (int64_t i = 0; i < mask_rows; ++i) {
    const bool empty = pattern != DENSE && between(random, 0, 9) == 0;
    for (int64_t bit = 0; bit < bits; ++bit) {
      if (pattern != DENSE) {
        if (empty || std::uniform_real_distribution<>()(random) >= density) continue;
        mask[i * words + bit / 64] |= uint64_t{1} << (bit % 64);
      }
      for (int64_t row = i * block.rows; row < (i + 1) * block.rows; ++row) {
        for (int64_t column = bit * block.columns; column < (bit + 1) * block.columns; ++column) store(row, column);
      }
    }
  }
  auto& bytes = packed.bytes;
  bytes.resize(HEADER);
  std::memcpy(bytes.data(), "SPSFYWT", 8);
  put<uint16_t>(bytes, 8, 1);
  put<uint8_t>(bytes, 10, precision);
  put<uint8_t>(bytes, 11, pattern);
  put<uint32_t>(bytes, 12, static_cast<uint32_t>(rows));
  put<uint32_t>(bytes, 16, static_cast<uint32_t>(columns));
  put<uint64_t>(bytes, 24, precision == I8 ? integers.size() : floats.size());
  add_section(bytes, 32, mask.data(), mask.size() * sizeof(uint64_t));
  add_section(bytes, 48, integers.data(), integers.size());
  add_section(bytes, 48, floats.data(), floats.size() * sizeof(float));
  add_section(bytes, 64, scales.data(), scales.size() * sizeof(float));
  put<uint64_t>(bytes, 88, bytes.size());
  packed.seal();
  return packed;
}

}  // namespace sparsify_tests
