//! The devices of a PC, and the bus that they hang on.
