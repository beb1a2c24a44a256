//! Attribution: which pod had an address at a time.
