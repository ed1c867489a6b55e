//! Guest physical memory: one sealed memory file, checked access, dirty and code pages.
