#ifndef TRANSPORT_API_VALIDATE_H_
#define TRANSPORT_API_VALIDATE_H_

#include "transport/api/limits.h"
#include "transport/api/request.h"

namespace oxmem::transport {

// What every channel checks before it sends anything: kOk, or the code the request completes with.
// A length of zero is fine for read, write, zero and prefetch, and completes at once.
Code Validate(const Request& request, const Limits& limits);

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_VALIDATE_H_
