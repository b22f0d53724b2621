// Somewhere to be found by the search path of the program that loads it.
extern "C" int verbs_loader_part() { return 1; }
