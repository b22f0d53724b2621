#ifndef TRANSPORT_RUNTIME_POLLABLE_H_
#define TRANSPORT_RUNTIME_POLLABLE_H_

#include "transport/base/clock.h"

namespace oxmem::transport {

// What a reactor drives: a channel, a volume, a front-end. Every call comes from the reactor's
// thread; none blocks. The rules of waking are those of Channel.
class Pollable {
 public:
  virtual ~Pollable() = default;
  Pollable(const Pollable&) = delete;
  Pollable& operator=(const Pollable&) = delete;

  // Makes progress; true if anything moved. Called again before the reactor sleeps while it is.
  virtual bool Poll() = 0;
  // False if Poll may have something to do already.
  virtual bool Arm() = 0;
  // Readable when armed and something happened; fixed; -1 for none.
  virtual int event_fd() const = 0;
  virtual Instant next_deadline() const = 0;

  // Begins to end: what is under way is completed, new work refused. Poll goes on being called
  // until finished() is true.
  virtual void Close() = 0;
  virtual bool finished() const = 0;

 protected:
  Pollable() = default;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_RUNTIME_POLLABLE_H_
