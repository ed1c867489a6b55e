//! The software CPU: x86-64 without help from the host's processor.
