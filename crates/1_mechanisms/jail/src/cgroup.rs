//! Control groups: one contract, two layouts (v1 or hybrid, and v2).
