"""One coroutine per public verb, loop-free: facade and client are thin shells over these."""
