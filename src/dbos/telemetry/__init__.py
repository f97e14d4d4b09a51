"""What the engine tells about itself: log lines and, where asked for, traces and metrics."""
