//! Tools for those who implement the traits or test on the core.
