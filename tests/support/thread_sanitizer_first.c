// Preloaded in front of the runtime of the thread sanitizer: that one waits for an instrumented
// program to start it, and without one falls over the first call of a library that is loaded.
void __tsan_init(void);
__attribute__((constructor)) static void StartThreadSanitizer(void) { __tsan_init(); }
