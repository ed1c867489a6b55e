//! The labs, end to end through the real binary.
