// Preloaded in front of the runtime of a sanitizer, which START is to start: that one waits for an
// instrumented program to do it, and without one falls over the first call of a library that is
// loaded.
void START(void);
__attribute__((constructor)) static void StartSanitizer(void) { START(); }
