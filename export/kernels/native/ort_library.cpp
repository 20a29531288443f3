// What ONNX Runtime calls when it loads the library.
#include <cstdio>
#include <list>
#include <mutex>

#include "operators.h"

namespace sparsify::ort {
namespace {

// Sessions made from one set of options refer to this for as long as they live, and the API does not say when the last
// of them is gone: it is never freed.
struct Registration {
  Registration(const OrtApi& api, bool infers_shapes)
      : linear(api, SPARSE_LINEAR, threads, infers_shapes),
        conv(api, SPARSE_CONV, threads, infers_shapes),
        attention(api, ATTENTION, threads, infers_shapes),
        domain(nullptr, api.ReleaseCustomOpDomain) {
    OrtCustomOpDomain* made = nullptr;
    check(api, api.CreateCustomOpDomain("sparsify", &made));
    domain.reset(made);
    check(api, api.CustomOpDomain_Add(made, &linear));
    check(api, api.CustomOpDomain_Add(made, &conv));
    check(api, api.CustomOpDomain_Add(made, &attention));
  }

  ThreadCount threads;
  Operator linear;
  Operator conv;
  Operator attention;
  std::unique_ptr<OrtCustomOpDomain, void(ORT_API_CALL*)(OrtCustomOpDomain*)> domain;
};

// Before 1.24, ONNX Runtime followed a null pointer when it asked an operator with an optional input left out for its
// shape. Those versions are not told that we can answer, and find shapes out when they run.
bool can_ask_for_shapes(const std::string& version) {
  int major = 0;
  int minor = 0;
  const bool read = std::sscanf(version.c_str(), "%d.%d", &major, &minor) == 2;
  return read && (major > 1 || minor >= 24);
}

void add_to(OrtSessionOptions* options, const OrtApi& api, const std::string& version) {
  static std::mutex mutex;
  static auto& registrations = *new std::list<Registration>;
  const std::lock_guard lock(mutex);
  check(api, api.AddCustomOpDomain(options, registrations.emplace_back(api, can_ask_for_shapes(version)).domain.get()));
}

}  // namespace
}  // namespace sparsify::ort

extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                                                            const OrtApiBase* base) {
  using namespace sparsify::ort;
  const OrtApi* api = base->GetApi(API_VERSION);
  if (api == nullptr) {  // the first version already could create a status
    return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, "sparsify's operators need ONNX Runtime 1.17 or newer");
  }
  return guarded(*api, "sparsify", [&] { add_to(options, *api, base->GetVersionString()); });
}
