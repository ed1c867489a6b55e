//! The command line: one definition of every verb, its output and its words.
