#include "packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sparsify_tests {
namespace {

constexpr size_t HEADER = 96;

uint32_t crc32(const uint8_t* bytes, size_t count, uint32_t before = 0) {
  uint32_t crc = ~before;
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

// A number of this precision, as bits of as many bytes and as what they mean.
struct Stored {
  uint32_t bits;
  double value;
};

Stored random_float(Random& random, Precision precision) {
  if (precision == F16) {  // by its parts; an exponent of 0 is subnormal
    const int64_t exponent = between(random, 0, 16), fraction = between(random, 0, 1023), sign = between(random, 0, 1);
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return {static_cast<uint32_t>(sign << 15 | exponent << 10 | fraction), sign ? -magnitude : magnitude};
  }
  float value = normal(random);
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (precision == F32) return {bits, value};
  bits &= 0xFFFF0000;
  std::memcpy(&value, &bits, 4);
  return {bits >> 16, value};
}

}  // namespace

int64_t between(Random& random, int64_t least, int64_t most) {
  return std::uniform_int_distribution<int64_t>(least, most)(random);
}

float normal(Random& random) { return std::normal_distribution<float>()(random); }

void Packed::seal() {
  put<uint32_t>(bytes, 80, crc32(bytes.data() + HEADER, bytes.size() - HEADER));
  const bool covers_header = bytes[8] != 1;  // not in version 1
  put<uint32_t>(bytes, 84, covers_header ? crc32(bytes.data() + 88, HEADER - 88, crc32(bytes.data(), 84)) : 0);
}

Packed random_packed(Random& random, int64_t rows, int64_t columns, Precision precision, Pattern pattern,
                     double density) {
  Packed packed{rows, columns, precision, pattern, std::vector<double>(rows * columns), {}};
  std::vector<float> scales(precision == I8 ? rows : 0);
  for (float& scale : scales) scale = 0.001f + 0.01f * std::abs(normal(random));
  const Block block = block_of(pattern);
  const int64_t mask_rows = (rows + block.rows - 1) / block.rows, bits = (columns + block.columns - 1) / block.columns;
  const int64_t words = (bits + 63) / 64;
  std::vector<uint64_t> mask(pattern == DENSE ? 0 : mask_rows * words);
  std::vector<uint8_t> values;
  uint64_t kept = 0;
  const size_t value_bytes = precision == F32 ? 4 : precision == I8 ? 1 : 2;
  const auto store = [&](int64_t row, int64_t column) {
    Stored stored{0, 0};
    if (row < rows && column < columns) {
      if (precision == I8) {
        const int64_t integer = between(random, -127, 127);
        stored = {static_cast<uint32_t>(integer), static_cast<double>(integer) * scales[row]};
      } else {
        stored = random_float(random, precision);
      }
      packed.weights[row * columns + column] = stored.value;
    }
    ++kept;
    for (size_t i = 0; i < value_bytes; ++i) values.push_back(static_cast<uint8_t>(stored.bits >> (8 * i)));
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
  put<uint16_t>(bytes, 8, static_cast<uint16_t>(between(random, 1, 2)));
  put<uint8_t>(bytes, 10, precision);
  put<uint8_t>(bytes, 11, pattern);
  put<uint32_t>(bytes, 12, static_cast<uint32_t>(rows));
  put<uint32_t>(bytes, 16, static_cast<uint32_t>(columns));
  put<uint64_t>(bytes, 24, kept);
  add_section(bytes, 32, mask.data(), mask.size() * sizeof(uint64_t));
  add_section(bytes, 48, values.data(), values.size());
  add_section(bytes, 64, scales.data(), scales.size() * sizeof(float));
  put<uint64_t>(bytes, 88, bytes.size());
  packed.seal();
  return packed;
}

}  // namespace sparsify_tests
