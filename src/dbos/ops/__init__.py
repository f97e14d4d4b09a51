"""One coroutine per public verb, loop-free: the facade and the client are thin shells over these."""
