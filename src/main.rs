//! The `yellowjack` binary: hands over to `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    yellowjack::run()
}
