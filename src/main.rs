//! The `yellowjack` binary: hands over to `cli`.

fn main() {}
