"""How a workflow runs: the loop-free core. It meets threads, loops and clocks only through `io`."""
