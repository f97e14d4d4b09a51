"""Threads, loops and waiting: the only package that knows asyncio and threading."""
