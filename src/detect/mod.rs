//! Detection: signals and event time to findings. Pure.
