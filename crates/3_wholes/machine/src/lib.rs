//! One virtual machine: from a plan to its parts, and its life.
