#ifndef APPS_OXMEM_NUMBER_OPTION_H_
#define APPS_OXMEM_NUMBER_OPTION_H_

#include <cstdint>

#include "CLI/CLI.hpp"

// Checks of options, for CLI::Option::check. CLI11 by itself takes "-1" for a large number, "1e99"
// for the largest, "nan" for one within every range, "010" for 8 and "" for nothing said.

namespace oxmem::apps {

// Decimal, or hexadecimal after 0x; nothing before or behind.
CLI::Validator WholeNumber(uint64_t least, uint64_t most);

// Decimal digits and perhaps a point.
CLI::Validator DecimalNumber(double least, double most);

CLI::Validator NotEmpty();

}  // namespace oxmem::apps

#endif  // APPS_OXMEM_NUMBER_OPTION_H_
