//! The contracts of processors: accelerator, virtual machine, virtual processor; their saved state; time and randomness of a guest.
