//! The `portcullis` command: everything is in the library.

use std::process::ExitCode;

/// A request makes some forty small allocations and a pull many of 256 KiB; docs/PERFORMANCE.md has
/// what the system's allocator made of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::run()
}
