//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    frazil::cli::main_action()
}
