//! Sources: files that rotate, and standard input.
