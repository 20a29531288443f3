#include "cpu.h"

#include <array>
#include <cstdlib>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sparsify {
namespace {

// From least to most: what SPARSIFY_KERNELS_ISA names is kept, and all before it.
constexpr std::array<std::string_view, 8> LADDER = {"portable",    "avx2",        "avx-vnni",    "avx512",
                                                    "avx512-vnni", "avx512-bf16", "avx512-fp16", "amx"};

struct Limit {
  size_t rung = LADDER.size() - 1;
  bool neon = true;
  std::string unknown;
};

Limit read_limit() {
  Limit limit;
  const char* text = std::getenv("SPARSIFY_KERNELS_ISA");
  if (text == nullptr || *text == '\0') return limit;
  const std::string_view word = text;
  if (word == "neon") {
    limit.rung = 0;
    return limit;
  }
  limit.neon = false;
  for (size_t i = 0; i < LADDER.size(); ++i) {
    if (LADDER[i] == word) {
      limit.rung = i;
      return limit;
    }
  }
  limit.rung = 0;
  limit.unknown = word;
  return limit;
}

const Limit& limit() {
  static const Limit once = read_limit();
  return once;
}

#if defined(__x86_64__)

bool may(std::string_view name) {
  for (size_t i = 0; i <= limit().rung; ++i) {
    if (LADDER[i] == name) return true;
  }
  return false;
}

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers leaf(unsigned number, unsigned sub = 0) {
  Registers r;
  __get_cpuid_count(number, sub, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool bit(unsigned word, int index) { return (word >> index & 1) != 0; }

// Which register files the operating system saves (the XCR0 register).
uint64_t saved_state() {
  if (!bit(leaf(1).c, 27)) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

// Linux gives a process the tile registers when it asks for them; other systems give them to all.
bool tiles_granted() {
#if defined(__linux__)
  constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return true;
#endif
}

// Intel's leaf of caches; AMD has the same one elsewhere, where its topology extensions are.
unsigned cache_leaf() {
  constexpr unsigned INTEL = 4, AMD = 0x8000001d;
  return (leaf(INTEL).a & 31) == 0 && bit(leaf(0x80000001).c, 22) ? AMD : INTEL;
}

void read_caches(Cpu& cpu) {
  const unsigned caches = cache_leaf();
  for (unsigned i = 0; i < 16; ++i) {
    const Registers r = leaf(caches, i);
    const unsigned kind = r.a & 31, level = r.a >> 5 & 7;
    if (kind == 0) return;
    const auto bytes = static_cast<int>(((r.b >> 22) + 1) * ((r.b >> 12 & 1023) + 1) * ((r.b & 4095) + 1) * (r.c + 1));
    if (level == 1 && kind == 1) cpu.l1_bytes = bytes;
    if (level == 2) cpu.l2_bytes = bytes;
  }
}

Cpu read() {
  Cpu cpu;
  const Registers one = leaf(1), seven = leaf(7), more = leaf(7, 1);
  const uint64_t saved = saved_state();
  const bool ymm = (saved & 0x6) == 0x6, zmm = ymm && (saved & 0xe0) == 0xe0, tiles = (saved & 0x60000) == 0x60000;
  cpu.avx2 = may("avx2") && ymm && bit(seven.b, 5) && bit(one.c, 12) && bit(one.c, 29);
  cpu.avx_vnni = may("avx-vnni") && cpu.avx2 && bit(more.a, 4);
  cpu.avx512 = may("avx512") && cpu.avx2 && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) &&
               bit(seven.b, 31);
  cpu.avx512_vbmi2 = may("avx512-vnni") && cpu.avx512 && bit(seven.c, 6);
  cpu.avx512_vnni = may("avx512-vnni") && cpu.avx512 && bit(seven.c, 11);
  cpu.avx512_bf16 = may("avx512-bf16") && cpu.avx512 && bit(more.a, 5);
  cpu.avx512_fp16 = may("avx512-fp16") && cpu.avx512 && bit(seven.d, 23);
  if (may("amx") && cpu.avx512 && tiles && bit(seven.d, 24) && tiles_granted()) {
    cpu.amx_int8 = bit(seven.d, 25);
    cpu.amx_bf16 = bit(seven.d, 22);
  }
  read_caches(cpu);
  return cpu;
}

#elif defined(__aarch64__)

Cpu read() {
  Cpu cpu;
  cpu.neon = limit().neon;  // every 64-bit Arm processor has it
  return cpu;
}

#else

Cpu read() { return Cpu{}; }

#endif

}  // namespace

const Cpu& cpu() {
  static const Cpu once = read();
  return once;
}

std::string describe_cpu() {
  const Cpu& has = cpu();
  std::string text;
  const auto add = [&text](bool there, const char* name) {
    if (there) text.append(text.empty() ? "" : " ").append(name);
  };
  add(has.avx2, "avx2");
  add(has.avx_vnni, "avx-vnni");
  add(has.avx512, "avx512");
  add(has.avx512_vbmi2, "avx512-vbmi2");
  add(has.avx512_vnni, "avx512-vnni");
  add(has.avx512_bf16, "avx512-bf16");
  add(has.avx512_fp16, "avx512-fp16");
  add(has.amx_int8, "amx-int8");
  add(has.amx_bf16, "amx-bf16");
  add(has.neon, "neon");
  if (text.empty()) text = "portable";
  if (!limit().unknown.empty()) text += " (SPARSIFY_KERNELS_ISA=" + limit().unknown + " is not known)";
  return text;
}

}  // namespace sparsify
