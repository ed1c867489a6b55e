//! What a machine starts with: kernels, firmware, and the tables that tell them of the machine.
