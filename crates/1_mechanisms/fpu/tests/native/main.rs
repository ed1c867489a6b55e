//! The crate against the processor that runs the test: every instruction, random states, everything compared.
#![allow(unsafe_code, reason = "instructions run natively in a page of code")]

mod block;
mod values;
mod vector;
mod x87;
