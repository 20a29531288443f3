// Reads a blob; its layout is told in sparsify_kernels/packing.py, which writes it. The bytes may come from anywhere:
// sizes are compared before anything is multiplied or read, and sections must lie exactly where the header implies.
#include "weights.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace sparsify {
namespace {

constexpr size_t HEADER_BYTES = 96, HEADER_CRC = 84;
constexpr size_t ALIGNMENT = 64;
constexpr uint32_t LARGEST = 1u << 30;  // rows, columns: their products with 64 stay far from 2^63
constexpr char MAGIC[9] = "SPSFYWT";    // with its zero, eight bytes

template <typename T>
T read(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

struct Section {
  uint64_t offset, bytes;
};

struct Header {
  Section mask, values, scales;
  uint32_t crc;
  uint64_t total;
};

// CRC-32 as zlib has it (reflected, polynomial 0xEDB88320), eight bytes a step:
// Kounavis & Berry 2005, "A systematic approach to building high performance, software-based, CRC generators".
constexpr auto CRC_TABLES = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0);
    tables[0][i] = crc;
  }
  for (size_t t = 1; t < 8; ++t)
    for (size_t i = 0; i < 256; ++i) tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 255];
  return tables;
}();

// Of the bytes after those whose checksum is `before`.
uint32_t crc32(std::span<const std::byte> bytes, uint32_t before = 0) {
  uint32_t crc = ~before;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = read<uint64_t>(bytes, i) ^ crc;
    crc = 0;
    for (size_t t = 0; t < 8; ++t) crc ^= CRC_TABLES[7 - t][word >> (8 * t) & 255];
  }
  for (; i < bytes.size(); ++i) crc = (crc >> 8) ^ CRC_TABLES[0][(crc ^ std::to_integer<uint32_t>(bytes[i])) & 255];
  return ~crc;
}

// Where a section of so many bytes must lie, after what ends at `end`, which is moved on.
Section placed(uint64_t bytes, uint64_t* end) {
  if (bytes == 0) return {0, 0};
  const uint64_t offset = (*end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  *end = offset + bytes;
  return {offset, bytes};
}

bool same(const Section& a, const Section& b) { return a.offset == b.offset && a.bytes == b.bytes; }

// Of the whole header but for the four bytes where it lies.
uint32_t header_crc(std::span<const std::byte> blob) {
  return crc32(blob.subspan(HEADER_CRC + 4, HEADER_BYTES - HEADER_CRC - 4), crc32(blob.first(HEADER_CRC)));
}

// The fields before the sections' offsets, and a sentence where one is wrong.
const char* read_kind(std::span<const std::byte> blob, Weights* weights) {
  if (blob.size() < HEADER_BYTES) return "expected a header of 96 bytes, got fewer";
  if (std::memcmp(blob.data(), MAGIC, 8) != 0) return "expected packed weights, got bytes that begin otherwise";
  const auto version = read<uint16_t>(blob, 8);
  if (version != 1 && version != 2) return "expected version 1 or 2 of the format, got another; use a newer release";
  // Version 1 has a zero where the header's checksum is now.
  if (read<uint32_t>(blob, HEADER_CRC) != (version == 1 ? 0 : header_crc(blob)))
    return "expected the header that was written, got a changed one";
  const auto precision = read<uint8_t>(blob, 10), pattern = read<uint8_t>(blob, 11);
  if (precision > static_cast<uint8_t>(Precision::i8)) return "expected a known precision, got another";
  if (pattern > static_cast<uint8_t>(Pattern::rows_32)) return "expected a known pattern, got another";
  const auto rows = read<uint32_t>(blob, 12), columns = read<uint32_t>(blob, 16);
  if (rows - 1 >= LARGEST || columns - 1 >= LARGEST) return "expected 1 to 2^30 rows and columns, got others";
  if (read<uint32_t>(blob, 20) != 0) return "expected no flags, got some";
  weights->precision = static_cast<Precision>(precision);
  weights->pattern = static_cast<Pattern>(pattern);
  weights->rows = static_cast<int32_t>(rows);
  weights->columns = static_cast<int32_t>(columns);
  weights->kept = read<uint64_t>(blob, 24);
  return nullptr;
}

const char* read_sections(std::span<const std::byte> blob, const Weights& weights, Header* header) {
  *header = {.mask = {read<uint64_t>(blob, 32), read<uint64_t>(blob, 40)},
             .values = {read<uint64_t>(blob, 48), read<uint64_t>(blob, 56)},
             .scales = {read<uint64_t>(blob, 64), read<uint64_t>(blob, 72)},
             .crc = read<uint32_t>(blob, 80),
             .total = read<uint64_t>(blob, 88)};
  if (header->total != blob.size()) return "expected as many bytes as the header says, got another number";
  // Before it is multiplied: no more values than there are bytes.
  if (weights.kept > blob.size()) return "expected fewer values than bytes, got more";
  const bool dense = weights.pattern == Pattern::dense;
  const uint64_t mask_bytes =
      dense ? 0 : static_cast<uint64_t>(weights.mask_rows()) * static_cast<uint64_t>(weights.mask_words()) * 8;
  const uint64_t scale_bytes = weights.precision == Precision::i8 ? static_cast<uint64_t>(weights.rows) * 4 : 0;
  uint64_t end = HEADER_BYTES;
  const bool placed_well = same(header->mask, placed(mask_bytes, &end)) &&
                           same(header->values, placed(weights.kept * weights.value_bytes(), &end)) &&
                           same(header->scales, placed(scale_bytes, &end)) && end == header->total;
  return placed_well ? nullptr : "expected sections where rows, columns and pattern put them, got them elsewhere";
}

template <typename T>
bool any_set(std::span<const std::byte> values, T mask) {  // whether any value has all of the mask's bits
  bool found = false;
  for (size_t i = 0; i < values.size(); i += sizeof(T)) found |= (read<T>(values, i) & mask) == mask;
  return found;
}

// Neither infinite nor NaN; integers not -128, whose negative int8 does not have.
bool values_sound(std::span<const std::byte> values, Precision precision) {
  switch (precision) {
    case Precision::f32: return !any_set<uint32_t>(values, 0x7F800000);
    case Precision::f16: return !any_set<uint16_t>(values, 0x7C00);
    case Precision::bf16: return !any_set<uint16_t>(values, 0x7F80);
    case Precision::i8: break;
  }
  bool lowest = false;
  for (const std::byte value : values) lowest |= value == std::byte{0x80};
  return !lowest;
}

bool scales_sound(std::span<const std::byte> scales) {
  bool sound = true;
  for (size_t i = 0; i < scales.size(); i += 4) {
    const auto scale = read<float>(scales, i);
    sound &= std::isfinite(scale * 127) && scale >= 0;  // so that every weight is finite
  }
  return sound;
}

// Bits that are set among the first `bits` of a mask's row; -1 where one past them is set.
int64_t set_bits(std::span<const std::byte> row, int32_t bits) {
  int64_t count = 0;
  for (size_t word = 0; word < row.size() / 8; ++word) count += std::popcount(read<uint64_t>(row, word * 8));
  const int32_t used = bits % 64;
  const bool stray = used != 0 && read<uint64_t>(row, row.size() - 8) >> used != 0;
  return stray ? -1 : count;
}

bool all_zero(std::span<const std::byte> bytes) {
  bool zero = true;
  for (const std::byte byte : bytes) zero &= byte == std::byte{0};
  return zero;
}

// Counts the mask's bits against `kept`, and looks at the values of blocks that hang over the matrix's edge.
const char* check_mask(std::span<const std::byte> mask, std::span<const std::byte> values, const Weights& weights) {
  const uint64_t height = static_cast<uint64_t>(weights.rows_per_bit());
  const uint64_t width = static_cast<uint64_t>(weights.columns_per_bit());
  const uint64_t block = height * width;
  const size_t row_bytes = static_cast<size_t>(weights.mask_words()) * 8, value_bytes = weights.value_bytes();
  const int32_t bits = weights.mask_bits();
  const uint64_t rows_in_last = static_cast<uint64_t>(weights.rows) - (weights.mask_rows() - 1) * height;
  const uint64_t columns_in_last = static_cast<uint64_t>(weights.columns) - (bits - 1) * width;
  uint64_t seen = 0;  // blocks before this row
  for (int32_t row = 0; row < weights.mask_rows(); ++row) {
    const auto words = mask.subspan(row * row_bytes, row_bytes);
    const int64_t count = set_bits(words, bits);
    if (count < 0) return "expected zeros past the end of a row of the mask, got bits";
    const uint64_t after = seen + static_cast<uint64_t>(count);
    if (after > weights.kept / block) return "expected as many values as the mask has, got fewer";
    const auto padding_zero = [&](uint64_t index, uint64_t first) {
      return all_zero(values.subspan((index * block + first) * value_bytes, (block - first) * value_bytes));
    };
    const bool last_kept = (read<uint64_t>(words, row_bytes - 8) >> ((bits - 1) % 64) & 1) != 0;
    bool zero = columns_in_last == width || !last_kept || padding_zero(after - 1, columns_in_last);
    if (row == weights.mask_rows() - 1 && rows_in_last < height)
      for (uint64_t index = seen; index < after; ++index) zero &= padding_zero(index, rows_in_last);
    if (!zero) return "expected zeros past the matrix's end, got other values";
    seen = after;
  }
  return seen * block == weights.kept ? nullptr : "expected as many values as the mask has, got more";
}

const char* parse(std::span<const std::byte> blob, Weights* weights) {
  Header header;
  if (const char* fault = read_kind(blob, weights)) return fault;
  if (const char* fault = read_sections(blob, *weights, &header)) return fault;
  if (crc32(blob.subspan(HEADER_BYTES)) != header.crc) return "expected the bytes that were written, got changed ones";
  const auto mask = blob.subspan(header.mask.offset, header.mask.bytes);
  const auto values = blob.subspan(header.values.offset, header.values.bytes);
  const auto scales = blob.subspan(header.scales.offset, header.scales.bytes);
  if (!values_sound(values, weights->precision)) return "expected finite values, got others";
  if (!scales_sound(scales)) return "expected finite scales of 0 or more, got others";
  const bool dense = weights->pattern == Pattern::dense;
  if (dense && weights->kept != static_cast<uint64_t>(weights->rows) * static_cast<uint64_t>(weights->columns))
    return "expected every value of a dense matrix, got another number";
  if (!dense)
    if (const char* fault = check_mask(mask, values, *weights)) return fault;
  weights->mask = dense ? nullptr : reinterpret_cast<const uint64_t*>(mask.data());
  weights->values = values.data();
  weights->scales = scales.empty() ? nullptr : reinterpret_cast<const float*>(scales.data());
  return nullptr;
}

}  // namespace

bool parse_weights(std::span<const std::byte> blob, Weights* weights, std::string* error) {
  *weights = {};
  const char* fault = parse(blob, weights);
  if (fault == nullptr) return true;
  *weights = {};
  *error = std::string("packed weights: ") + fault;
  return false;
}

}  // namespace sparsify
