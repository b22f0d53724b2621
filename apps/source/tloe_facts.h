#ifndef APPS_SOURCE_TLOE_FACTS_H_
#define APPS_SOURCE_TLOE_FACTS_H_

#include "apps/common/facts.h"
#include "oxmem/channel/tloe_channel.h"
#include "transport/api/source.h"

namespace oxmem::apps {

// What the two ends of an OmniXtend connection agreed on, for people: protocol, kind of the peer,
// order of data bytes, sizes. Of a channel that is connected.
Facts TloeFacts(const channel::TloeChannel& channel, const transport::Source& source);

}  // namespace oxmem::apps

#endif  // APPS_SOURCE_TLOE_FACTS_H_
