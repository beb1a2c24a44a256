//! Decoders: bytes of one log line to one signal. Pure.
