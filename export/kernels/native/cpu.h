// What this processor can do, as it reports it itself, less what SPARSIFY_KERNELS_ISA switches off.
#pragma once

#include <string>

namespace sparsify {

struct Cpu {
  bool avx2 = false;         // with FMA and F16C
  bool avx_vnni = false;     // 256-bit vpdpbusd
  bool avx512 = false;       // F, BW, VL, DQ
  bool avx512_vbmi2 = false; // vpexpandb
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool avx512_fp16 = false;
  bool amx_int8 = false;     // and the operating system has granted the tiles to this process
  bool amx_bf16 = false;
  bool neon = false;
  int l1_bytes = 32 * 1024;
  int l2_bytes = 1024 * 1024;
};

// Read once. SPARSIFY_KERNELS_ISA is the most that may be used: portable, neon, avx2, avx-vnni, avx512, avx512-vnni,
// avx512-bf16, avx512-fp16 or amx; unset means all. An unknown word counts as portable and is told by describe_cpu.
const Cpu& cpu();

// For people and for the plan's key: "avx512 avx512-vnni amx-int8".
std::string describe_cpu();

}  // namespace sparsify
