#ifndef APPS_COMMON_SERVICE_MANAGER_H_
#define APPS_COMMON_SERVICE_MANAGER_H_

#include <string>

namespace oxmem::apps {

// Tells the service manager that started this process (systemd, Type=notify) how it is:
// "READY=1", "STOPPING=1", "STATUS=…". Nothing happens without one.
void NotifyServiceManager(const std::string& state);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_SERVICE_MANAGER_H_
