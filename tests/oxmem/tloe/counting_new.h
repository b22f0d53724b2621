#ifndef TESTS_OXMEM_TLOE_COUNTING_NEW_H_
#define TESTS_OXMEM_TLOE_COUNTING_NEW_H_

namespace oxmem::test {

// How often this program has allocated. Linking a source of this in is what makes it count.
long Allocations();

}  // namespace oxmem::test

#endif  // TESTS_OXMEM_TLOE_COUNTING_NEW_H_
