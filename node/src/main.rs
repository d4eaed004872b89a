//! The program `kvarter`. Everything it does is in the library, starting at [`kvarter_node::cli::run`].

use std::process::ExitCode;

/// Gives memory of stopped actors back to the system, which the C library's allocator does not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    kvarter_node::cli::run()
}
