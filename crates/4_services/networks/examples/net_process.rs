//! A program that is only `posada net`, for the tests of this room.

fn main() -> std::process::ExitCode {
    networks::serve(std::env::args_os().skip(2))
}
