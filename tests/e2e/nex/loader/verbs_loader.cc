// Finds the verbs at run time, with and without versions, and uses them: what programs do that are
// not linked with libibverbs. Run under nexrun, with the libraries to load as arguments; each that
// is a libibverbs must show nex0.
#include <dlfcn.h>
#include <infiniband/verbs.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

[[noreturn]] void Fail(const char* what, const char* why) {
  std::fprintf(stderr, "%s: %s\n", what, why == nullptr ? "?" : why);
  std::exit(1);
}

template <typename Function>
Function* Find(void* library, const char* name, const char* version) {
  void* symbol = version == nullptr ? dlsym(library, name) : dlvsym(library, name, version);
  if (symbol == nullptr) Fail(name, dlerror());
  return reinterpret_cast<Function*>(symbol);
}

// The file a function came from.
std::string Origin(void* function) {
  Dl_info info;
  if (dladdr(function, &info) == 0) Fail("dladdr", "unknown address");
  return info.dli_fname;
}

// The interface as it is: lists, opens and registers memory.
void UseVerbs(void* library, const char* version) {
  auto* list = Find<ibv_device**(int*)>(library, "ibv_get_device_list", version);
  auto* open = Find<ibv_context*(ibv_device*)>(library, "ibv_open_device", version);
  auto* allocate = Find<ibv_pd*(ibv_context*)>(library, "ibv_alloc_pd", version);
  auto* add = Find<ibv_mr*(ibv_pd*, void*, std::size_t, int)>(library, "ibv_reg_mr", version);
  auto* remove = Find<int(ibv_mr*)>(library, "ibv_dereg_mr", version);
  auto* release = Find<int(ibv_pd*)>(library, "ibv_dealloc_pd", version);
  auto* close = Find<int(ibv_context*)>(library, "ibv_close_device", version);
  int count = 0;
  ibv_device** devices = list(&count);
  if (count < 1 || std::strcmp(devices[0]->name, "nex0") != 0)
    Fail("ibv_get_device_list", "no nex0");
  ibv_context* context = open(devices[0]);
  ibv_pd* pd = context == nullptr ? nullptr : allocate(context);
  static char memory[4096];
  ibv_mr* mr = pd == nullptr ? nullptr : add(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
  if (mr == nullptr || remove(mr) != 0 || release(pd) != 0 || close(context) != 0) {
    Fail("nex0", "it cannot be used");
  }
}

// The interface of 2006, which libibverbs keeps for programs of that time on top of its own:
// handles are others, so nothing of it may come from elsewhere.
void UseOldVerbs(void* library) {
  static constexpr const char* kOld = "IBVERBS_1.0";
  auto* list = Find<void**(int*)>(library, "ibv_get_device_list", kOld);
  auto* name = Find<const char*(void*)>(library, "ibv_get_device_name", kOld);
  auto* open = Find<void*(void*)>(library, "ibv_open_device", kOld);
  auto* allocate = Find<void*(void*)>(library, "ibv_alloc_pd", kOld);
  auto* release = Find<int(void*)>(library, "ibv_dealloc_pd", kOld);
  auto* close = Find<int(void*)>(library, "ibv_close_device", kOld);
  if (Origin(reinterpret_cast<void*>(open)).find("libibverbs") == std::string::npos) {
    Fail("ibv_open_device@IBVERBS_1.0", "not of libibverbs");
  }
  int count = 0;
  void** devices = list(&count);
  if (count < 1 || std::strcmp(name(devices[0]), "nex0") != 0) Fail(kOld, "no nex0");
  void* context = open(devices[0]);
  void* pd = context == nullptr ? nullptr : allocate(context);
  if (pd == nullptr || release(pd) != 0 || close(context) != 0) Fail(kOld, "nex0 cannot be used");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) Fail("usage", "verbs_loader LIBRARY… (loaded in turn)");
  for (int i = 1; i < argc; ++i) {
    void* library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) Fail(argv[i], dlerror());
    if (std::string(argv[i]).find("libibverbs") == std::string::npos) continue;
    UseVerbs(library, nullptr);
    UseVerbs(library, "IBVERBS_1.1");
    UseOldVerbs(library);
    // What nex0 has no business with is still found through the same handle.
    auto* text = Find<const char*(ibv_wc_status)>(library, "ibv_wc_status_str", "IBVERBS_1.1");
    if (text(IBV_WC_SUCCESS) == nullptr) Fail("ibv_wc_status_str", nullptr);
  }
  std::puts("all found");
  return 0;
}
